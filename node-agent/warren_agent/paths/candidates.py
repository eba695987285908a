"""The addresses at which a peer may be reachable, and why each is believed to be one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from warren_agent.paths.families import Families
from warren_agent.paths.timing import PING_SOURCE_SECONDS
from warren_wire.addresses import AddrPort

MAX_LISTED: Final = 64
"""Of one list, be it the network map's or a peer's own; a node with more interfaces than that is none."""

MAX_PING_SOURCES: Final = 16
"""A peer behind a NAT that changes the port per packet must not grow the set without end."""


@dataclass(slots=True)
class Candidate:
    """One address with the reasons to keep it."""

    address: AddrPort
    in_map: bool = False
    in_call: bool = False
    seen_at: float | None = None
    """When a ping, an authenticated packet or our own best path last came from here."""
    pinged_at: float | None = None
    latency_seconds: float | None = None

    def kept(self, now: float) -> bool:
        recent = self.seen_at is not None and now - self.seen_at < PING_SOURCE_SECONDS
        return self.in_map or self.in_call or recent


def is_usable(address: AddrPort, families: Families) -> bool:
    """Whether it makes sense to send there at all; lists come from outside and may hold anything."""
    ip = address.ip
    if (
        ip.version not in families
        or address.port == 0
        or ip.is_multicast
        or ip.is_unspecified
        or ip.is_loopback
    ):
        return False
    if ip.version == 4:
        return int(ip) != 0xFFFFFFFF
    return not ip.is_link_local


class Candidates:
    """A peer's candidates by address, in the order in which they became known."""

    def __init__(self, families: Families) -> None:
        self._families = families
        self._by_address: dict[AddrPort, Candidate] = {}

    def __len__(self) -> int:
        return len(self._by_address)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(list(self._by_address.values()))

    def get(self, address: AddrPort) -> Candidate | None:
        return self._by_address.get(address)

    def set_families(self, families: Families) -> None:
        """Only these may be used from now on."""
        self._families = families
        for address in [a for a in self._by_address if a.ip.version not in families]:
            del self._by_address[address]

    def set_map(self, addresses: Iterable[AddrPort], now: float) -> None:
        """Take the network map's list; what only the old list held goes."""
        listed = self._listed(addresses)
        for candidate in self._by_address.values():
            candidate.in_map = candidate.address in listed
        for address in listed:
            self._ensure(address).in_map = True
        self.prune(now)

    def set_call(self, addresses: Iterable[AddrPort], now: float) -> None:
        """Take the list of a CallMeMaybe; every candidate may then be pinged at once."""
        listed = self._listed(addresses)
        for candidate in self._by_address.values():
            candidate.in_call = candidate.address in listed
            candidate.pinged_at = None
        for address in listed:
            self._ensure(address).in_call = True
        self.prune(now)

    def saw(self, address: AddrPort, now: float) -> Candidate | None:
        """Something of the peer's came from `address`. None if it can be no candidate."""
        if not is_usable(address, self._families):
            return None
        known = self._by_address.get(address)
        if known is None and self._seen_only() >= MAX_PING_SOURCES:
            self._drop_oldest_seen()
        candidate = known or self._ensure(address)
        candidate.seen_at = now
        return candidate

    def prune(self, now: float) -> None:
        for address in [c.address for c in self._by_address.values() if not c.kept(now)]:
            del self._by_address[address]

    def _listed(self, addresses: Iterable[AddrPort]) -> dict[AddrPort, None]:
        listed: dict[AddrPort, None] = {}
        for address in addresses:
            if is_usable(address, self._families):
                listed[address] = None
            if len(listed) == MAX_LISTED:
                break
        return listed

    def _ensure(self, address: AddrPort) -> Candidate:
        return self._by_address.setdefault(address, Candidate(address))

    def _seen_only(self) -> int:
        return sum(not (c.in_map or c.in_call) for c in self._by_address.values())

    def _drop_oldest_seen(self) -> None:
        oldest = min(
            (c for c in self._by_address.values() if not (c.in_map or c.in_call)),
            key=lambda c: c.seen_at if c.seen_at is not None else 0.0,
        )
        del self._by_address[oldest.address]
