"""One mesh on a small internet: a control server of ours, a second relay, and nodes that all know each other.

    the hosts of a topology -- internet -- control (relay, STUN)
                                            -- relay, spare (derper: regions of their own, STUN)

Two STUN servers with addresses of their own, or no node could tell what kind of NAT it is behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from warren_lab.certificates import Authority
from warren_lab.hosts import Derper, WarrenControl
from warren_lab.net import Network, PublicHost, RouterKind, Topology
from warren_lab.net.topology import public_v6_of
from warren_lab.run import Run
from warren_lab.scenario.nodes import Node, OurNode, Side, StockNode
from warren_lab.scenario.probe import echo
from warren_lab.scenario.standing import Standing
from warren_lab.tools import Toolbox

CONTROL: Final = PublicHost("control", IPv4Address("203.0.113.2"))
RELAYS: Final = {
    901: PublicHost("relay", IPv4Address("203.0.113.3")),
    902: PublicHost("spare", IPv4Address("203.0.113.4")),
}
"""Hosts with a `derper` by their region."""
SIDE_BY_SIDE: Final = 4
"""Nodes that start at the same time: more would only wait for each other's processor."""


def derper_region(
    region: int, address: IPv4Address, code: str = "derper", v6: IPv6Address | None = None
) -> dict[str, Any]:
    """A region of one `derper`, as clients know it."""
    node = {
        "Name": f"{region}a",
        "RegionID": region,
        "HostName": str(address),
        "IPv4": str(address),
        "IPv6": "none" if v6 is None else str(v6),
        "STUNPort": 3478,
        "DERPPort": 443,
    }
    return {"RegionID": region, "RegionCode": code, "RegionName": code, "Nodes": [node]}


class Overlay(Standing):
    """A context manager: the network and the servers run when it is entered, nothing is left when it ends."""

    def __init__(
        self, plan: Topology, toolbox: Toolbox, *, relays: int = 1, control_relay: bool = True
    ) -> None:
        """`plan` gets the servers' hosts in addition: the control server's, which is a relay as well unless
        told otherwise, and those of `relays` others."""
        self._regions = dict(list(RELAYS.items())[:relays])
        self._plan = replace(plan, public_hosts=(*plan.public_hosts, CONTROL, *self._regions.values()))
        self._control_relay = control_relay
        self.toolbox = toolbox
        self.nodes: dict[str, Node] = {}
        self.relays: dict[str, Derper] = {}
        super().__init__()

    def _build(self) -> None:
        self.run = self._stack.enter_context(Run())
        self.network = self._stack.enter_context(Network(self._plan, self.run.prefix))
        self._stack.callback(self._abandon)
        self.authority = Authority.create(self.run.path / "ca")
        for host in self._regions.values():
            self.start_relay(host.name)
        self.control = WarrenControl(
            self.run,
            "control",
            namespace=self.network.namespace(CONTROL.name),
            address=CONTROL.address,
            address_v6=self._v6_of(CONTROL.address),
            authority=self.authority,
            relay=self._control_relay,
            regions=[
                derper_region(region, host.address, host.name, self._v6_of(host.address))
                for region, host in self._regions.items()
            ],
        )

    def _v6_of(self, address: IPv4Address) -> IPv6Address | None:
        return public_v6_of(address) if self._plan.public_v6 else None

    def start_relay(self, host: str) -> None:
        """Start the `derper` of a region; its region's code is the host's name."""
        self.relays[host] = Derper(
            self.run,
            self.toolbox,
            host,
            namespace=self.network.namespace(host),
            authority=self.authority,
            host_name=str(self.network.address(host)),
        )

    def join(self, hosts: Mapping[str, Side], say: Callable[[str], None] = lambda _text: None) -> None:
        """Put a node on each host and wait until all have joined; each answers datagrams (`probe`)."""
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            for name in pool.map(self._join, hosts, hosts.values()):
                say(name)

    def _join(self, host: str, side: Side) -> str:
        namespace = self.network.namespace(host)
        kind = OurNode if side is Side.OURS else StockNode
        control = self.control if self._has_v4(host) else self.control.by_v6
        node: Node = kind(self.run, self.toolbox, host, namespace=namespace, control=control)
        self.nodes[host] = node
        node.begin()
        node.joined()
        self._stack.enter_context(echo(namespace))
        return host

    def _has_v4(self, host: str) -> bool:
        router = next((router for router in self._plan.routers if host in router.hosts), None)
        return router is None or (router.lan_v4 and router.kind is not RouterKind.IPV4_BROKEN)

    def keep(self) -> None:
        """Leave everything running when this process ends; `warren-lab down` removes it."""
        self.run.keep()
        self._stack.pop_all()

    def _abandon(self) -> None:
        for node in self.nodes.values():
            node.abandon()


def sides(ours: Iterable[str], stock: Iterable[str]) -> dict[str, Side]:
    """What `join` takes, from the names of the hosts."""
    return dict.fromkeys(ours, Side.OURS) | dict.fromkeys(stock, Side.STOCK)
