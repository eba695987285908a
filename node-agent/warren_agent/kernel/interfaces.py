"""What the agent needs from a WireGuard device, whichever program or module runs it.

Knows keys, addresses and counters; must not know netlink, UAPI text or paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from warren_wire.addresses import AddrPort
from warren_wire.keys import NodePrivate, NodePublic


class WireGuardError(Exception):
    """The device refused a request or cannot be reached; the text says which and why."""


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """One peer as it should be. `endpoint` None leaves the present endpoint of a running peer alone."""

    key: NodePublic
    allowed_ips: tuple[IPv4Network | IPv6Network, ...]
    endpoint: AddrPort | None = None


@dataclass(frozen=True, slots=True)
class PeerStats:
    """One peer as the device reports it. Byte counters grow from when the peer was added."""

    endpoint: AddrPort | None
    rx_bytes: int
    tx_bytes: int
    last_handshake_unix_ns: int
    allowed_ips: tuple[IPv4Network | IPv6Network, ...]


class WireGuard(Protocol):
    """One WireGuard device. Every method raises `WireGuardError` and nothing else of its own.

    No method ends a running session: peers are changed in place and removed only through
    `update(remove=...)`.
    """

    async def configure(self, private: NodePrivate, listen_port: int, fwmark: int) -> None:
        """Set key, port and mark; values that are already so are not written again, since that clears
        sources."""

    async def update(self, set: Sequence[PeerConfig], remove: Sequence[NodePublic]) -> None:  # noqa: A002
        """Add or change the peers in `set` (allowed addresses replace the old ones), remove those in
        `remove`."""

    async def set_endpoint(self, peer: NodePublic, endpoint: AddrPort) -> None:
        """Send to `endpoint` from now on. A peer that the device does not have is left out, not created."""

    async def peers(self) -> Mapping[NodePublic, PeerStats]:
        """All peers of the device in one consistent read."""
