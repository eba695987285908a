"""Two hosts behind two easy NATs as one mesh: Warren's agents, stock `tailscaled`, or one of each.

home, home-stock -- home-router --+            +-- office-router -- office, office-stock
                                  +- internet -+
                    control (with relay), control-stock, derper

All pairs cross the same routers and share the machine's processors; only one pair runs at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from warren_lab.certificates import Authority
from warren_lab.errors import ProcessError
from warren_lab.hosts import Derper, IperfServer, WarrenControl
from warren_lab.net import Network, PublicHost, Router, Topology
from warren_lab.net.network import forget_mappings
from warren_lab.run import Run
from warren_lab.scenario.lines import echo_lines
from warren_lab.scenario.nodes import Node, OurNode, Side, StockNode, Via
from warren_lab.scenario.overlay import derper_region
from warren_lab.scenario.probe import echo
from warren_lab.scenario.standing import Standing
from warren_lab.tools import Toolbox

DERPER: Final = IPv4Address("203.0.113.60")
TOPOLOGY: Final = Topology(
    routers=(
        Router(
            "home-router",
            IPv4Address("203.0.113.10"),
            IPv4Network("192.168.10.0/24"),
            ("home", "home-stock"),
        ),
        Router(
            "office-router",
            IPv4Address("203.0.113.20"),
            IPv4Network("192.168.20.0/24"),
            ("office", "office-stock"),
        ),
    ),
    public_hosts=(
        PublicHost("control", IPv4Address("203.0.113.40")),
        PublicHost("control-stock", IPv4Address("203.0.113.50")),
        PublicHost("derper", DERPER),
    ),
)
ROUTERS: Final = tuple(router.name for router in TOPOLOGY.routers)
DERPER_REGION: Final = derper_region(901, DERPER)
# Two hosts with the same port share a public port at their router, and its mapping would no longer be easy.
STOCK_PORT: Final = 41642


class Lab(Standing):
    """The network with both control servers and relays running. A context manager that removes it."""

    def __init__(self, toolbox: Toolbox) -> None:
        self.toolbox = toolbox
        super().__init__()

    def _build(self) -> None:
        self.run = self._stack.enter_context(Run())
        self.network = self._stack.enter_context(Network(TOPOLOGY, self.run.prefix))
        self.authority = Authority.create(self.run.path / "ca")
        self.control = self._control("control")
        Derper(
            self.run,
            self.toolbox,
            "derper",
            namespace=self.network.namespace("derper"),
            authority=self.authority,
            host_name=str(DERPER),
        )
        self.control_stock = self._control("control-stock", relay=False, regions=(DERPER_REGION,))
        for host in ("office", "office-stock"):
            namespace = self.network.namespace(host)
            self._stack.enter_context(echo(namespace))
            self._stack.enter_context(echo_lines(namespace))
            IperfServer(self.run, host, namespace=namespace)

    def _control(self, host: str, **settings: Any) -> WarrenControl:
        return WarrenControl(
            self.run,
            host,
            namespace=self.network.namespace(host),
            address=self.network.address(host),
            authority=self.authority,
            **settings,
        )

    def set_udp(self, allowed: bool) -> None:
        """Cut UDP at both routers, or let it pass again."""
        for router in ROUTERS:
            self.network.set_udp(router, allowed)

    def forget_mappings(self) -> None:
        """Close the holes that an earlier pair made in the routers, which a later one would find open."""
        for router in ROUTERS:
            forget_mappings(self.network.namespace(router), "udp")


class Pair:
    """Two hosts that join one mesh from nothing, and leave it. The near host joins last and sends.

    Two nodes of ours use the relay inside their control server; where one is stock, `derper` is the relay.
    """

    def __init__(self, lab: Lab, near: Side, far: Side, number: int) -> None:
        """`number` tells this pair's state from that of pairs before it."""
        self._lab = lab
        self._number = number
        self._stack = ExitStack()
        ours = near is far is Side.OURS
        self._control = lab.control if ours else lab.control_stock
        self._near_side, self._far_side = near, far
        self.near, self._far = _host("home", near), _host("office", far)
        self.hosts = (self.near, self._far, "control" if ours else "derper")
        """Where programs work for a transfer: both hosts and the relay's."""
        self.head_start = 0.0
        """Seconds that the near host's daemon took to start before `begin`; 0 where `begin` starts it."""

    def _node(self, host: str, side: Side) -> Node:
        lab, name = self._lab, f"{host}-{self._number}"
        namespace = lab.network.namespace(host)
        node: Node = (
            OurNode(lab.run, lab.toolbox, name, namespace=namespace, control=self._control)
            if side is Side.OURS
            else StockNode(
                lab.run, lab.toolbox, name, namespace=namespace, control=self._control, port=STOCK_PORT
            )
        )
        self._stack.callback(node.leave)
        return node

    def start(self) -> str:
        """The far host joins; its mesh address. A daemon that the near host needs beforehand runs too."""
        far = self._node(self._far, self._far_side)
        far.begin()
        far.joined()
        began = time.monotonic()
        self._near = self._node(self.near, self._near_side)
        if self._near_side is Side.STOCK:
            # A service of the host, which runs before anybody joins.
            self.head_start = time.monotonic() - began
        return far.address

    def begin(self) -> None:
        """Give the near host's command to join; joining goes on."""
        self._near.begin()

    def joined(self) -> None:
        """Raises `ProcessError` if joining failed."""
        self._near.joined()

    def via(self, address: str) -> Via:
        """How the near host reaches the far one."""
        return self._near.via(address)

    def end(self) -> None:
        """Both leave, and their hosts are as they were."""
        self._stack.close()


def _host(place: str, side: Side) -> str:
    return place if side is Side.OURS else f"{place}-stock"


def wait_until(ready: Callable[[], bool], what: str, timeout_seconds: float) -> float:
    """When `ready` said so. Raises `ProcessError`."""
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ProcessError(f"{what} took longer than {timeout_seconds:.0f} s")
        time.sleep(0.05)
    return time.monotonic()
