"""The path engine: every peer's path, and the sockets that carry disco, STUN and relayed packets.

Owns the raw sockets beside WireGuard's port, the loopback socket that stands in for relayed peers, and the relay
connections. Knows a WireGuard device only through `kernel.interfaces.WireGuard`; must not know the control server.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping

from warren_agent.kernel.interfaces import WireGuard
from warren_agent.paths.values import (
    LocalState,
    NetcheckReport,
    PathChange,
    PathKind,
    PathPeer,
    PathStatus,
    PingResult,
)
from warren_wire.addresses import AddrPort
from warren_wire.control.messages import DERPMap
from warren_wire.keys import DiscoPrivate, NodePrivate, NodePublic

__all__ = [
    "LocalState",
    "NetcheckReport",
    "PathChange",
    "PathEngine",
    "PathKind",
    "PathPeer",
    "PathStatus",
    "PingResult",
]


class PathEngine:
    """Keeps every peer's WireGuard endpoint on the best path that is proven to work."""

    def __init__(
        self,
        *,
        node: NodePrivate,
        disco: DiscoPrivate,
        listen_port: int,
        mark: int,
        wireguard: WireGuard,
        ssl_context: ssl.SSLContext,
        on_local_change: Callable[[LocalState], None],
        interface: str = "",
        ipv4_only: bool = True,
    ) -> None:
        """`mark` goes on every socket so that no packet of ours enters the tunnel.

        `interface` is WireGuard's own, whose addresses are never offered. `ipv4_only` must stay true with userspace
        WireGuard: it sends to wrong addresses when peers of both families are in use.
        """
        raise NotImplementedError

    async def run(self) -> None:
        """Serve until cancelled. Leaves WireGuard's endpoints as they are, so that traffic goes on."""
        raise NotImplementedError

    def set_relay_map(self, derp_map: DERPMap) -> None:
        """Take a new relay map; connections to regions that did not change stay."""
        raise NotImplementedError

    def set_peers(self, peers: Mapping[NodePublic, PathPeer]) -> None:
        """Take all peers; what is known about those that stay is kept. May be called before `run`."""
        raise NotImplementedError

    def loopback_endpoint(self, peer: NodePublic) -> AddrPort:
        """The endpoint that a new WireGuard peer gets; stable, callable for any key and before `run`."""
        raise NotImplementedError

    def status(self) -> Mapping[NodePublic, PathStatus]:
        """Every peer's path now."""
        raise NotImplementedError

    def home_relay(self) -> int:
        """The home region, 0 before one is chosen."""
        raise NotImplementedError

    async def ping(self, peer: NodePublic, timeout_seconds: float = 5.0) -> PingResult:
        """Ask a peer for an answer by every path; the direct one wins if both answer about as fast."""
        raise NotImplementedError

    async def netcheck(self) -> NetcheckReport:
        """Look at the network now and wait for the report."""
        raise NotImplementedError
