"""Builds a topology out of namespaces and removes it again, whatever happens in between.

A namespace holds everything of a host, so removing the namespaces removes all. Names carry the prefix of
the run (``wl<pid>-home``), so that leftovers of dead processes can be told apart.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from types import TracebackType
from typing import Final, Self, TypeVar

from warren_lab.errors import NetworkError
from warren_lab.net import firewall, links, namespaces, topology
from warren_lab.net.links import Interface, Route
from warren_lab.net.topology import (
    INTERNET,
    PUBLIC_V4,
    PUBLIC_V6,
    Router,
    RouterKind,
    Topology,
    public_v6_of,
)

T = TypeVar("T")

PUBLIC_GATEWAY: Final = PUBLIC_V4.network_address + 1
PUBLIC_GATEWAY_V6: Final = PUBLIC_V6.network_address + 1
_FORWARDING: Final = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}
# Addresses are usable at once; nobody else is on these links.
_QUICK = {"net/ipv6/conf/all/accept_dad": "0", "net/ipv6/conf/default/accept_dad": "0"}


class Network:
    """A built small internet; a context manager that removes it."""

    def __init__(self, plan: Topology, prefix: str | None = None) -> None:
        self.topology = plan
        self.prefix = prefix if prefix is not None else f"wl{os.getpid()}"
        self._ports = 0

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def namespace(self, name: str) -> str:
        """The namespace of a host, a router or the internet itself."""
        return f"{self.prefix}-{name}"

    def address(self, host: str) -> IPv4Address:
        """A host's own address."""
        return self.topology.address_of(host)

    def public_address(self, host: str) -> IPv4Address:
        """The address that the public network sees: the host's own, or its router's."""
        for router in self.topology.routers:
            if host in router.hosts and router.kind is not RouterKind.FIREWALL:
                return self._outermost(router).wan
        return self.topology.address_of(host)

    def _outermost(self, router: Router) -> Router:
        return router if router.uplink is None else self._outermost(self.topology.router(router.uplink))

    def inside(self, name: str, action: Callable[[], T]) -> T:
        """Run ``action`` in a host's namespace."""
        return namespaces.inside(self.namespace(name), action)

    def set_udp(self, router: str, allowed: bool) -> None:
        """Cut UDP through a router in both directions, or let it pass again."""
        namespace = self.namespace(self.topology.router(router).name)
        _nft(namespace, firewall.udp_rules(allowed))
        forget_mappings(namespace, "udp")

    def reboot(self, router: str, wan: IPv4Address) -> None:
        """A public router forgets every mapping and comes back with another public address."""
        namespace = self.namespace(self.topology.router(router).name)
        links.replace_address(namespace, "wan", IPv4Interface(f"{wan}/{PUBLIC_V4.prefixlen}"), PUBLIC_GATEWAY)
        forget_mappings(namespace)

    def readdress(self, host: str, address: IPv4Address) -> None:
        """Give a host behind a router another address of its LAN in place of the one it has."""
        router = next(router for router in self.topology.routers if host in router.hosts)
        links.replace_address(
            self.namespace(host), "eth0", IPv4Interface(f"{address}/{router.lan.prefixlen}"), router.gateway
        )

    def set_mapping_lifetime(self, router: str, seconds: int) -> None:
        """How long a router keeps an idle UDP mapping."""
        namespaces.set_kernel_values(
            self.namespace(router),
            {
                "net/netfilter/nf_conntrack_udp_timeout": str(seconds),
                "net/netfilter/nf_conntrack_udp_timeout_stream": str(seconds),
            },
        )

    def route_to(self, router: str, address: IPv4Address) -> None:
        """Give a public router one more public address: the internet routes it there."""
        plan = self.topology.router(router)
        links.add_routes(self.namespace(INTERNET), [Route(plan.wan, IPv4Network(address))])

    def load_rules(self, host: str, rules: str) -> None:
        """Load nftables rules on a host or a router."""
        _nft(self.namespace(host), rules)

    def remove(self) -> None:
        """Remove everything; harmless when nothing is there."""
        for name in namespaces.names(f"{self.prefix}-"):
            remove_namespace(name)

    def _build(self) -> None:
        if namespaces.names(f"{self.prefix}-"):
            raise NetworkError(f"namespaces {self.prefix}-… exist already: this process runs another network")
        internet = self._make(INTERNET)
        # A destination that nobody has is answered at once instead of swallowed.
        # It also forwards to LANs that are routed; a redirect would send their traffic around it.
        namespaces.set_kernel_values(internet, _FORWARDING)
        addresses: list[Interface] = [IPv4Interface(f"{PUBLIC_GATEWAY}/{PUBLIC_V4.prefixlen}")]
        if self.topology.public_v6:
            addresses.append(IPv6Interface(f"{PUBLIC_GATEWAY_V6}/{PUBLIC_V6.prefixlen}"))
        links.make_bridge(internet, "pub0", addresses)
        for host in self.topology.public_hosts:
            self._join_public(self._make(host.name), "eth0", host.address)
        for router in self.topology.routers:
            self._build_router(router)

    def _build_router(self, router: Router) -> None:
        namespace = self._make(router.name)
        # Hairpin traffic leaves where it came in; a redirect would bypass the translation.
        namespaces.set_kernel_values(namespace, _FORWARDING | {"net/ipv6/conf/all/forwarding": "1"})
        _nft(namespace, firewall.router_rules(router))
        if router.uplink is None:
            self._join_public(namespace, "wan", router.wan)
        else:
            self._join_outer(namespace, router, self.topology.router(router.uplink))
        if router.kind is RouterKind.FIREWALL:
            links.add_routes(self.namespace(INTERNET), [Route(router.wan, router.lan)])
        gateways: list[Interface] = [IPv4Interface(f"{router.gateway}/{router.lan.prefixlen}")]
        if router.lan_v6 is not None:
            gateways.append(IPv6Interface(f"{router.lan_v6.network_address + 1}/{router.lan_v6.prefixlen}"))
        # The switch is a namespace of its own: with br_netfilter loaded, a bridge beside NAT rules would
        # translate frames while it bridges them, and hairpin traffic would keep its private source.
        switch = self._make(topology.switch_name(router.name))
        links.make_bridge(switch, "sw0", [])
        self._connect(namespace, "lan0", switch, "sw0")
        links.set_up(namespace, "lan0", gateways)
        for host in router.hosts:
            self._join_lan(self._make(host), switch, router, host)

    def _make(self, name: str) -> str:
        namespace = self.namespace(name)
        namespaces.create(namespace)
        namespaces.set_kernel_values(namespace, _QUICK)
        links.set_up(namespace, "lo")
        return namespace

    def _join_public(self, namespace: str, interface: str, address: IPv4Address) -> None:
        self._connect(namespace, interface, self.namespace(INTERNET), "pub0")
        addresses: list[Interface] = [IPv4Interface(f"{address}/{PUBLIC_V4.prefixlen}")]
        # Programs that see no default route believe that they are offline.
        routes = [Route(PUBLIC_GATEWAY)]
        if self.topology.public_v6:
            addresses.append(IPv6Interface(f"{public_v6_of(address)}/{PUBLIC_V6.prefixlen}"))
            routes.append(Route(PUBLIC_GATEWAY_V6))
            routes += [
                Route(public_v6_of(router.wan), router.lan_v6)
                for router in self.topology.routers
                if router.lan_v6 is not None and router.wan != address
            ]
        links.set_up(namespace, interface, addresses, routes)

    def _join_outer(self, namespace: str, router: Router, outer: Router) -> None:
        self._connect(namespace, "wan", self.namespace(topology.switch_name(outer.name)), "sw0")
        address = IPv4Interface(f"{router.wan}/{outer.lan.prefixlen}")
        links.set_up(namespace, "wan", [address], [Route(outer.gateway)])

    def _join_lan(self, namespace: str, switch: str, router: Router, host: str) -> None:
        self._connect(namespace, "eth0", switch, "sw0")
        addresses: list[Interface] = [router.interface_of(host)] if router.lan_v4 else []
        routes = [Route(router.gateway)] if router.lan_v4 else []
        if router.lan_v6 is not None:
            addresses.append(IPv6Interface(f"{router.v6_address_of(host)}/{router.lan_v6.prefixlen}"))
            routes.append(Route(router.lan_v6.network_address + 1))
        links.set_up(namespace, "eth0", addresses, routes)

    def _connect(self, namespace: str, interface: str, bridge_namespace: str, bridge: str) -> None:
        self._ports += 1
        port = f"port{self._ports}"
        links.make_pair(namespace, interface, bridge_namespace, port)
        links.plug(bridge_namespace, port, bridge)


def remove_namespace(name: str) -> None:
    """End what still runs in a namespace of the lab, then remove it."""
    for pid in namespaces.processes(name):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    namespaces.remove(name)


def forget_mappings(namespace: str, transport: str | None = None) -> None:
    """Drop a router's connection tracking entries, all or of one transport; other connections go on."""
    what = ["-F"] if transport is None else ["-D", "-p", transport]
    command = ["nsenter", f"--net={namespaces.path(namespace)}", "conntrack", *what]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    # Exit code 1 with a count of 0 says that there was nothing to drop.
    if answer.returncode != 0 and " 0 flow entries" not in answer.stderr:
        raise NetworkError(f"conntrack failed in {namespace}: {answer.stderr.strip()}")


def _nft(namespace: str, rules: str) -> None:
    command = ["nsenter", f"--net={namespaces.path(namespace)}", "nft", "-f", "-"]
    try:
        answer = subprocess.run(command, input=rules, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NetworkError("nsenter is missing: apt-get install util-linux") from error
    if answer.returncode != 0:
        raise NetworkError(f"nft refused the rules of {namespace}: {answer.stderr.strip()}")
