"""What the agent keeps on a host, as values: the same type for what is wanted and for what is found.

Pure; must not know how any of it is read or written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from types import MappingProxyType
from typing import Any, Final

from warren_wire.keys import NodePublic

Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface

MTU: Final = 1280
"""The least an IPv6 link may have: with the 80 bytes that go around it, it fits nearly every path."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One WireGuard peer. `has_endpoint` is always wanted: a peer without one drops what it should send."""

    allowed_ips: frozenset[Network]
    has_endpoint: bool = True


@dataclass(frozen=True, slots=True)
class Device:
    """The settings of the WireGuard device itself."""

    public_key: NodePublic
    listen_port: int
    mark: int


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """Packets without our mark look into our table; WireGuard's own packets pass it by."""

    family: int
    priority: int
    table: int
    mark: int
    mask: int


@dataclass(frozen=True, slots=True)
class Ruleset:
    """One nftables table as libnftables' JSON objects, without handles."""

    objects: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Host:
    link_up: bool = False
    mtu: int = 0
    device: Device | None = None
    addresses: frozenset[Interface] = frozenset()
    peers: Mapping[NodePublic, Peer] = field(default_factory=lambda: MappingProxyType({}))
    routes: frozenset[Network] = frozenset()
    rules: frozenset[Rule] = frozenset()
    firewall: Ruleset | None = None


NOTHING: Final = Host()
