"""Links and addresses: our interface, and what the host has beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any, Final

from warren_agent.host import Interface, Network
from warren_agent.kernel.rtnetlink import EXISTS, GONE, unless

UP: Final = 1
SCOPE_GLOBAL: Final = 0


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    up: bool
    mtu: int
    kind: str
    """`tun` for userspace WireGuard, `wireguard` for the kernel's."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What other interfaces of this host are attached to."""

    networks: frozenset[Network]
    addresses: frozenset[IPv4Address | IPv6Address]


def find_link(ip: Any, name: str) -> Link | None:
    for index in ip.link_lookup(ifname=name):
        for message in ip.get_links(index):
            info = message.get_attr("IFLA_LINKINFO")
            kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
            return Link(index, bool(message["flags"] & UP), message.get_attr("IFLA_MTU"), kind or "")
    return None


def add_wireguard_link(ip: Any, name: str) -> None:
    with unless(EXISTS):
        ip.link("add", ifname=name, kind="wireguard")


def set_link_up(ip: Any, index: int, mtu: int) -> None:
    ip.link("set", index=index, mtu=mtu)
    ip.link("set", index=index, state="up")


def remove_link(ip: Any, index: int) -> None:
    with unless(*GONE):
        ip.link("del", index=index)


def _interfaces(ip: Any) -> Iterator[tuple[int, Interface]]:
    for message in ip.get_addr():
        # Link-local addresses come and go by themselves and are nobody's network.
        if message["scope"] != SCOPE_GLOBAL:
            continue
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        yield message["index"], ip_interface(f"{address}/{message['prefixlen']}")


def link_addresses(ip: Any, index: int) -> frozenset[Interface]:
    return frozenset(interface for owner, interface in _interfaces(ip) if owner == index)


def neighbourhood(ip: Any, own_index: int | None) -> Neighbourhood:
    others = [interface for owner, interface in _interfaces(ip) if owner != own_index]
    return Neighbourhood(
        networks=frozenset(i.network for i in others if i.network.prefixlen < i.network.max_prefixlen),
        addresses=frozenset(i.ip for i in others),
    )


def add_address(ip: Any, index: int, address: Interface) -> None:
    with unless(EXISTS):
        ip.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)


def remove_address(ip: Any, index: int, address: Interface) -> None:
    with unless(*GONE):
        ip.addr("del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
