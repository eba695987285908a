"""The host's own addresses that a peer may reach it at, and a signal when they change."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from warren_agent.kernel.route_library import IPRoute
from warren_wire.addresses import CGNAT_V4, ULA_V6

OTHER_MESHES: Final = ("zt", "wt", "tailscale", "nebula")
CONTAINER_BRIDGES: Final = ("cni", "docker", "flannel", "cali", "kube-", "nodelocaldns", "lxc", "podman")
"""Every cluster has the same addresses on these, so peers would only ping themselves."""

UNIQUE_LOCAL_V6: Final = IPv6Network("fc00::/7")
MAX_IPV6_PER_SUBNET: Final = 2

RTM_GROUP_LINK: Final = 0x1
RTM_GROUP_IPV4_IFADDR: Final = 0x10
RTM_GROUP_IPV6_IFADDR: Final = 0x100

IFF_UP: Final = 0x1
IFF_LOOPBACK: Final = 0x8
IFA_F_UNUSABLE: Final = 0x20 | 0x40 | 0x08
"""Deprecated, tentative or failed duplicate detection."""

Address = IPv4Address | IPv6Address


def is_assigned(address: Address) -> bool:
    """Whether an address is one of this host's now."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((str(address), 0))
        except OSError:
            return False
    return True


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of one interface that is up."""

    interface: str
    address: Address
    subnet: IPv4Network | IPv6Network


def read_addresses() -> list[InterfaceAddress]:
    """Every usable address of the host. Blocks for the time of two netlink dumps."""
    with IPRoute() as route:
        names = {
            link["index"]: link.get_attr("IFLA_IFNAME")
            for link in route.get_links()
            if link["flags"] & IFF_UP and not link["flags"] & IFF_LOOPBACK
        }
        found: list[InterfaceAddress] = []
        for message in route.get_addr():
            name = names.get(message["index"])
            flags = message.get_attr("IFA_FLAGS") or message["flags"]
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if name is None or text is None or flags & IFA_F_UNUSABLE:
                continue
            subnet = ip_network(f"{text}/{message['prefixlen']}", strict=False)
            found.append(InterfaceAddress(name, ip_address(text), subnet))
        return found


def reachable(addresses: Iterable[InterfaceAddress], *, own: str) -> tuple[Address, ...]:
    """Those worth offering to peers; `own` is the mesh's interface.

    Link-local IPv4 and unique-local IPv6 count only where there is nothing better, as with stock peers.
    """
    regular: list[Address] = []
    last_resort: list[Address] = []
    per_subnet: dict[tuple[str, IPv4Network | IPv6Network], int] = {}
    for entry in addresses:
        address = entry.address
        if entry.interface == own or entry.interface.startswith(OTHER_MESHES + CONTAINER_BRIDGES):
            continue
        if address.is_loopback or address in CGNAT_V4 or address in ULA_V6:
            continue
        if isinstance(address, IPv6Address):
            key = (entry.interface, entry.subnet)
            per_subnet[key] = per_subnet.get(key, 0) + 1
            if address.is_link_local or per_subnet[key] > MAX_IPV6_PER_SUBNET:
                continue
            (last_resort if address in UNIQUE_LOCAL_V6 else regular).append(address)
        else:
            (last_resort if address.is_link_local else regular).append(address)
    return tuple(dict.fromkeys(regular or last_resort))


def change_socket() -> socket.socket:
    """A socket that becomes readable when a link or an address changes; what it carries does not matter."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    sock.bind((0, RTM_GROUP_LINK | RTM_GROUP_IPV4_IFADDR | RTM_GROUP_IPV6_IFADDR))
    return sock
