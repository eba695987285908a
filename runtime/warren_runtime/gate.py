"""Bounds connections that have not sent a request yet, overall and for each address. Pure bookkeeping.

A flood of handshakes that never finish then holds a known amount of memory, and one address only its share.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from .http_head import HeadFault
from .proxies import Network, parsed

LOOPBACK: Final[tuple[Network, ...]] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
_SITE_BITS: Final = 64
"""What one IPv6 customer has at least: counting single addresses of it would bound nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Connections: all, those without a request, and of these what one address may hold."""

    connections: int = 50_000
    waiting: int = 4096
    waiting_per_source: int = 256
    """Enough for a few hundred clients behind one router that all come back at once."""
    exempt: tuple[Network, ...] = LOOPBACK
    """Addresses that stand for many clients: proxies, and whatever runs on this host."""


class Gate:
    """Counts who waits; every `enter` or `count` is followed by a `leave`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._per_source: Counter[str] = Counter()
        self.waiting = 0

    def enter(self, peer: str, connections: int) -> HeadFault | None:
        """Let one more in, or say why not; `connections` are all that are open."""
        if self.waiting >= self._limits.waiting or connections >= self._limits.connections:
            return HeadFault.TOO_MANY_CONNECTIONS
        source = self._source(peer)
        if source and self._per_source[source] >= self._limits.waiting_per_source:
            return HeadFault.TOO_MANY_OF_SOURCE
        self.count(peer)
        return None

    def count(self, peer: str) -> None:
        """Take one in that was let in before."""
        self._per_source[self._source(peer)] += 1
        self.waiting += 1

    def leave(self, peer: str) -> None:
        """It has sent its request, or it is gone."""
        source = self._source(peer)
        self.waiting -= 1
        self._per_source[source] -= 1
        if not self._per_source[source]:
            del self._per_source[source]

    def _source(self, peer: str) -> str:
        """What is counted as one; empty for what is exempt."""
        address = parsed(peer)
        if address is None or any(address in network for network in self._limits.exempt):
            return ""
        if isinstance(address, IPv6Address):
            return str(ip_network((address, _SITE_BITS), strict=False))
        return peer
