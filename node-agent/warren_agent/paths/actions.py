"""What the path machine asks of its shell, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from warren_agent.paths.values import PathKind
from warren_wire.addresses import AddrPort
from warren_wire.keys import NodePublic

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send from WireGuard's port. `source` is the local address to send from, None to let routing choose."""

    data: bytes
    destination: AddrPort
    source: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class SendRelayed:
    """Send over a relay; `region` None means by the peer's usual relay."""

    peer: NodePublic
    data: bytes
    region: int | None = None


@dataclass(frozen=True, slots=True)
class SetEndpoint:
    """Point WireGuard at a direct address, or with None at the loopback endpoint that leads to the relay."""

    peer: NodePublic
    endpoint: AddrPort | None


@dataclass(frozen=True, slots=True)
class RefreshEndpoints:
    """Measure our own endpoints again, then call `set_own_endpoints` whatever came out."""


Action = SendDatagram | SendRelayed | SetEndpoint | RefreshEndpoints


@dataclass(frozen=True, slots=True)
class PathChanged:
    """A peer's path is another one from now on."""

    peer: NodePublic
    path: PathKind
    endpoint: AddrPort | None
    reason: str


@dataclass(frozen=True, slots=True)
class PingAnswered:
    """A pong to a ping that a person asked for. `region` is set for answers over a relay."""

    token: int
    endpoint: AddrPort | None
    region: int | None
    latency_seconds: float


Event = PathChanged | PingAnswered
