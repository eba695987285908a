"""The values that paths are described with, inside the engine and to its users.

Monotonic times are floats in seconds; times for people are aware datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from warren_wire.addresses import AddrPort
from warren_wire.control.messages import NetInfo
from warren_wire.keys import DiscoPublic


class PathKind(Enum):
    """How packets for a peer travel now."""

    DIRECT = "direct"
    RELAY = "relay"
    IDLE = "idle"
    """Nothing was sent for 45 s and no direct path is proven; the next packet takes the relay."""


class EndpointType(Enum):
    """Where one of our own endpoints was learned; the numbers are those of the control protocol."""

    LOCAL = 1
    STUN = 2
    PORT_MAPPED = 3
    STUN_LOCAL_PORT = 4
    EXPLICIT = 5


@dataclass(frozen=True, slots=True)
class PathPeer:
    """What the network map says about reaching a peer. `home_relay` 0 means that it has none."""

    disco: DiscoPublic
    endpoints: tuple[AddrPort, ...]
    home_relay: int
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class PathChange:
    """One lasting change of a peer's path."""

    at: datetime
    path: PathKind
    endpoint: AddrPort | None
    reason: str


@dataclass(frozen=True, slots=True)
class PathStatus:
    """A peer's path as `warren-agent status` shows it. `relay` is the region that carries what is not
    direct."""

    path: PathKind
    endpoint: AddrPort | None
    relay: int | None
    since: datetime
    latency_seconds: float | None
    relay_rx_packets: int
    relay_tx_packets: int
    history: tuple[PathChange, ...]


class PingKind(Enum):
    """Who answers a ping, and by which way it goes."""

    DISCO = "disco"
    """The peer's path machine, outside the tunnel, by every path."""
    TSMP = "tsmp"
    """The peer's node program, through the tunnel, whatever its firewall says."""
    ICMP = "icmp"
    """The peer's kernel, through the tunnel and its firewall."""


@dataclass(frozen=True, slots=True)
class PingResult:
    """The first answer to a path ping; `latency_seconds` None means that none came in time."""

    path: PathKind
    endpoint: AddrPort | None
    relay: int | None
    latency_seconds: float | None


@dataclass(frozen=True, slots=True)
class NetcheckReport:
    """What one look at the network found out."""

    udp: bool = False
    ipv4: AddrPort | None = None
    ipv6: AddrPort | None = None
    mapping_varies: bool | None = None
    """True: a hard NAT, the public port differs by destination. None: fewer than two servers answered."""
    region_latency_seconds: Mapping[int, float] = field(default_factory=dict)
    region_latency_v4: Mapping[int, float] = field(default_factory=dict)
    region_latency_v6: Mapping[int, float] = field(default_factory=dict)
    mapped: Mapping[AddrPort, int] = field(default_factory=dict)
    """Every public address seen, and by how many probes."""
    home: int = 0


@dataclass(frozen=True, slots=True)
class LocalState:
    """What peers and the control server must know to reach this node."""

    endpoints: tuple[AddrPort, ...]
    endpoint_types: tuple[int, ...]
    net_info: NetInfo
