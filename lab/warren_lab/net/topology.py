"""A small internet as a value: what there shall be, checked before anything is made.

Pure. The first host of a LAN gets the address .10, the next .11; the router is .1.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network

from warren_lab.errors import NetworkError

PUBLIC_V4 = IPv4Network("203.0.113.0/24")
PUBLIC_V6 = IPv6Network("2001:db8::/64")
INTERNET = "internet"
FIRST_LAN_HOST = 10


class RouterKind(enum.Enum):
    """What a router does to connections from inside."""

    EASY = "easy"
    """One public port for all destinations, the local one where it is free; only who was sent to gets in."""
    EASY_OTHER = "easy-other"
    """The same with a public port that is never the local one."""
    ADDRESS_FILTERED = "easy-af"
    """As easy, and any port of an address that was sent to gets in."""
    FULL_CONE = "full-cone"
    """One public port for all destinations, open to everybody, hosts inside included."""
    ONE_TO_ONE = "one-to-one"
    """The public address is the one host's: everything from outside gets in."""
    FIREWALL = "firewall"
    """No translation: the LAN is routed, and a stateful firewall keeps out what nobody asked for."""
    HARD = "hard"
    """A new random public port for each destination."""
    UDP_BLOCKED = "udp-blocked"
    """No UDP in or out."""
    TCP_443 = "tcp443"
    """Nothing out but TCP to port 443."""
    IPV4_BROKEN = "ipv4-broken"
    """An IPv4 packet never comes out again; IPv6 passes."""
    IPV6_BROKEN = "ipv6-broken"
    """An IPv6 packet never comes out again; IPv4 passes."""


class Transport(enum.Enum):
    """What a port forward carries."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of the router's public address that leads to a host inside."""

    transport: Transport
    port: int
    host: str
    to_port: int


@dataclass(frozen=True, slots=True)
class Router:
    """A router with its LAN: one public address, hosts behind it."""

    name: str
    wan: IPv4Address
    lan: IPv4Network
    hosts: tuple[str, ...]
    kind: RouterKind = RouterKind.EASY
    forwards: tuple[Forward, ...] = ()
    lan_v6: IPv6Network | None = None
    """Routed, with a stateful firewall; needs ``Topology.public_v6``."""
    lan_v4: bool = True
    """False: hosts have IPv6 only."""
    uplink: str | None = None
    """The router, earlier in the list, whose LAN this one's ``wan`` is in; without one it is public."""

    @property
    def gateway(self) -> IPv4Address:
        return self.lan.network_address + 1

    def address_of(self, host: str) -> IPv4Address:
        return self.lan.network_address + FIRST_LAN_HOST + self.hosts.index(host)

    def interface_of(self, host: str) -> IPv4Interface:
        return IPv4Interface(f"{self.address_of(host)}/{self.lan.prefixlen}")

    def v6_address_of(self, host: str) -> IPv6Address:
        """With the same last number as the IPv4 address. Raises `NetworkError` without ``lan_v6``."""
        if self.lan_v6 is None:
            raise NetworkError(f"there is no IPv6 behind {self.name}")
        return self.lan_v6.network_address + FIRST_LAN_HOST + self.hosts.index(host)


@dataclass(frozen=True, slots=True)
class PublicHost:
    """A host with a public address."""

    name: str
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything of one small internet."""

    routers: tuple[Router, ...] = ()
    public_hosts: tuple[PublicHost, ...] = ()
    public_v6: bool = False

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise NetworkError("; ".join(problems))

    def router(self, name: str) -> Router:
        """The router of that name."""
        for router in self.routers:
            if router.name == name:
                return router
        raise NetworkError(f"there is no router {name!r}")

    def address_of(self, host: str) -> IPv4Address:
        """A host's own address: public, or in its LAN."""
        for public in self.public_hosts:
            if public.name == host:
                return public.address
        for router in self.routers:
            if host in router.hosts:
                return router.address_of(host)
        raise NetworkError(f"there is no host {host!r}")


def switch_name(router: str) -> str:
    """The namespace of the switch between a router and its hosts."""
    return f"{router}-lan"


def public_v6_of(address: IPv4Address) -> IPv6Address:
    """A public IPv6 address with the same last number: 203.0.113.10 has 2001:db8::a."""
    return PUBLIC_V6.network_address + int(address) % 256


def _problems(topology: Topology) -> Iterator[str]:
    yield from _name_problems(topology)
    publics = [router.wan for router in topology.routers if router.uplink is None]
    publics += [host.address for host in topology.public_hosts]
    for address in publics:
        # .1 is the bridge itself, .255 the broadcast address.
        if address not in PUBLIC_V4 or int(address) % 256 in (0, 1, 255):
            yield f"{address} is not a host address of {PUBLIC_V4}"
        if publics.count(address) > 1:
            yield f"{address} is used twice"
    earlier: dict[str, Router] = {}
    for router in topology.routers:
        yield from _router_problems(router, topology.public_v6)
        yield from _uplink_problems(router, earlier)
        earlier[router.name] = router


def _name_problems(topology: Topology) -> Iterator[str]:
    names = [INTERNET, *(host.name for host in topology.public_hosts)]
    for router in topology.routers:
        names += [router.name, switch_name(router.name), *router.hosts]
    for name in names:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
            yield f"{name!r} is not a name: small letters, digits and dashes"
        if names.count(name) > 1:
            yield f"the name {name!r} is used twice"


def _uplink_problems(router: Router, earlier: Mapping[str, Router]) -> Iterator[str]:
    if router.uplink is None:
        return
    outer = earlier.get(router.uplink)
    if outer is None:
        yield f"{router.name} is behind {router.uplink!r}, which is no router before it"
    elif router.wan not in outer.lan or router.wan in {outer.gateway, *map(outer.address_of, outer.hosts)}:
        yield f"{router.wan} is not a free address of {outer.lan}"
    if router.lan_v6 is not None or router.kind is RouterKind.FIREWALL:
        yield f"{router.name} is behind another router, which knows no route to its LAN"


def _router_problems(router: Router, public_v6: bool) -> Iterator[str]:
    if router.lan.prefixlen > 24:
        yield f"{router.lan} is too small: a LAN needs a /24 or more"
    if router.lan.overlaps(PUBLIC_V4):
        yield f"{router.lan} overlaps the public network {PUBLIC_V4}"
    if router.lan_v6 is not None and not public_v6:
        yield f"{router.lan_v6} needs public IPv6"
    if not router.lan_v4 and router.lan_v6 is None:
        yield f"hosts behind {router.name} have no address at all"
    if router.kind is RouterKind.ONE_TO_ONE and len(router.hosts) != 1:
        yield f"{router.name} gives its public address to one host, not to {len(router.hosts)}"
    taken: set[tuple[Transport, int]] = set()
    for forward in router.forwards:
        if forward.host not in router.hosts:
            yield f"port {forward.port} is forwarded to {forward.host!r}, which is not behind {router.name}"
        if not (0 < forward.port < 65536 and 0 < forward.to_port < 65536):
            yield f"{forward.port} to {forward.to_port} are not ports"
        if (forward.transport, forward.port) in taken:
            yield f"{forward.transport.value} port {forward.port} of {router.name} is forwarded twice"
        taken.add((forward.transport, forward.port))
