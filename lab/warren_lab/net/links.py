"""Bridges, veth pairs, addresses and routes in namespaces, through pyroute2.

The only module of the lab that speaks netlink; nothing untyped leaves it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from warren_lab.errors import NetworkError
from warren_lab.net import namespaces

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Route:
    """To a network, or everywhere if ``to`` is None, through a gateway."""

    gateway: IPv4Address | IPv6Address
    to: IPv4Network | IPv6Network | None = None


def make_bridge(namespace: str, name: str, addresses: Iterable[Interface]) -> None:
    """A bridge in a namespace, up, with addresses."""

    def make(netlink: Any) -> None:
        netlink.link("add", ifname=name, kind="bridge")
        _raise_with(netlink, name, addresses)

    _netlink(namespace, make)


def make_pair(namespace: str, name: str, other_namespace: str, other_name: str) -> None:
    """A veth pair between two namespaces, both ends still down."""
    descriptor = os.open(namespaces.path(other_namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        _netlink(
            namespace,
            lambda netlink: netlink.link(
                "add", ifname=name, kind="veth", peer={"ifname": other_name, "net_ns_fd": descriptor}
            ),
        )
    finally:
        os.close(descriptor)


def plug(namespace: str, name: str, bridge: str) -> None:
    """Make an interface a port of a bridge and set it up."""

    def change(netlink: Any) -> None:
        netlink.link("set", index=_index(netlink, name), master=_index(netlink, bridge), state="up")

    _netlink(namespace, change)


def set_up(
    namespace: str, name: str, addresses: Iterable[Interface] = (), routes: Iterable[Route] = ()
) -> None:
    """Give an interface its addresses, set it up and add routes."""

    def change(netlink: Any) -> None:
        _raise_with(netlink, name, addresses)
        _add(netlink, routes)

    _netlink(namespace, change)


def replace_address(namespace: str, name: str, address: IPv4Interface, gateway: IPv4Address) -> None:
    """In place of an interface's IPv4 addresses, with whose last one the kernel removes their routes."""

    def change(netlink: Any) -> None:
        netlink.flush_addr(index=_index(netlink, name), family=2)
        _raise_with(netlink, name, [address])
        _add(netlink, [Route(gateway)])

    _netlink(namespace, change)


def add_routes(namespace: str, routes: Iterable[Route]) -> None:
    """Add routes by gateways that the namespace reaches already."""
    _netlink(namespace, lambda netlink: _add(netlink, routes))


def _add(netlink: Any, routes: Iterable[Route]) -> None:
    for route in routes:
        family = 2 if route.gateway.version == 4 else 10
        target = str(route.to) if route.to is not None else "default"
        netlink.route("add", dst=target, gateway=str(route.gateway), family=family)


def _raise_with(netlink: Any, name: str, addresses: Iterable[Interface]) -> None:
    index = _index(netlink, name)
    for address in addresses:
        netlink.addr("add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
    netlink.link("set", index=index, state="up")


def _index(netlink: Any, name: str) -> int:
    found = netlink.link_lookup(ifname=name)
    if not found:
        raise NetworkError(f"there is no interface {name}")
    return int(found[0])


def _netlink(namespace: str, action: Callable[[Any], object]) -> None:
    def run() -> None:
        with IPRoute() as netlink:
            action(netlink)

    try:
        namespaces.inside(namespace, run)
    except NetlinkError as error:
        raise NetworkError(f"the kernel refused a change in {namespace}: {error}") from error
