"""Two hosts behind two easy NATs as one mesh: Warren's agents, and stock `tailscaled` over `derper`.

home, home-stock -- home-router --+            +-- office-router -- office, office-stock
                                  +- internet -+
                    control (with relay), control-stock, derper

Both pairs cross the same routers and share the machine's processors; only one pair runs at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from types import TracebackType
from typing import Any, Final, Protocol, Self

from warren_lab.certificates import Authority
from warren_lab.errors import ProcessError
from warren_lab.hosts import Derper, IperfServer, Tailscaled, WarrenAgent, WarrenControl
from warren_lab.net import Network, PublicHost, Router, Topology
from warren_lab.net.network import forget_mappings
from warren_lab.run import Run
from warren_lab.scenario.probe import echo
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
DERPER_REGION: Final[dict[str, Any]] = {
    "RegionID": 901,
    "RegionCode": "derper",
    "RegionName": "derper",
    "Nodes": [
        {
            "Name": "901a",
            "RegionID": 901,
            "HostName": str(DERPER),
            "IPv4": str(DERPER),
            "IPv6": "none",
            "STUNPort": 3478,
            "DERPPort": 443,
        }
    ],
}
# Two hosts with the same port share a public port at their router, and its mapping would no longer be easy.
STOCK_PORT: Final = 41642
JOIN_SECONDS: Final = 60.0


class Lab:
    """The network with both control servers and relays running. A context manager that removes it."""

    def __init__(self, toolbox: Toolbox) -> None:
        self.toolbox = toolbox
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

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


class Pair(Protocol):
    """Two hosts that join one mesh from nothing, and leave it."""

    near: str
    """The host that joins last and sends."""
    head_start: float
    """Seconds that the near host's daemon took to start before `begin`; 0 where `begin` starts it."""
    hosts: tuple[str, ...]
    """Where programs work for a transfer: both hosts and the relay's."""

    def start(self) -> str:
        """The far host joins; its mesh address. What the near host needs beforehand runs too."""

    def begin(self) -> None:
        """Give the near host's command to join; joining goes on."""

    def joined(self) -> None:
        """Raises `ProcessError` if joining failed."""

    def path(self, address: str) -> str:
        """How the near host reaches the far one: "direct", "relay" or something else."""

    def end(self) -> None:
        """Both leave, and their hosts are as they were."""


class OurPair:
    """Two `warren-agent`s with userspace WireGuard."""

    near = "home"
    head_start = 0.0
    hosts: tuple[str, ...] = ("home", "office", "control")

    def __init__(self, lab: Lab) -> None:
        self._stack = ExitStack()
        self._far, self._near = (
            self._stack.enter_context(
                WarrenAgent(
                    lab.run, lab.toolbox, host, namespace=lab.network.namespace(host), control=lab.control
                )
            )
            for host in ("office", "home")
        )

    def start(self) -> str:
        self._far.up()
        self._far.wait_ready(JOIN_SECONDS)
        return ipv4(self._far.addresses())

    def begin(self) -> None:
        self._near.up()

    def joined(self) -> None:
        self._near.wait_ready(JOIN_SECONDS)

    def path(self, address: str) -> str:
        return str(self._near.peer(address).get("path", "idle"))

    def end(self) -> None:
        self._stack.close()


class StockPair:
    """Two stock `tailscaled`s with a control server that names `derper` as the only relay."""

    near = "home-stock"
    hosts: tuple[str, ...] = ("home-stock", "office-stock", "derper")

    def __init__(self, lab: Lab, number: int) -> None:
        """`number` tells this pair's state from that of pairs before it."""
        self._lab = lab
        self._number = number
        self._stack = ExitStack()
        self._pool = self._stack.enter_context(ThreadPoolExecutor(1))
        self._joining: Future[None] | None = None
        self.head_start = 0.0

    def _daemon(self, host: str) -> Tailscaled:
        daemon = Tailscaled(
            self._lab.run,
            self._lab.toolbox,
            f"{host}-{self._number}",
            namespace=self._lab.network.namespace(host),
            ca_file=self._lab.authority.pair.certificate,
            port=STOCK_PORT,
        )
        self._stack.enter_context(daemon)
        return daemon

    def _up(self, daemon: Tailscaled) -> None:
        control = self._lab.control_stock
        daemon.up(control.url, control.join_key, timeout_seconds=JOIN_SECONDS)
        self._stack.callback(daemon.logout)

    def start(self) -> str:
        far = self._daemon("office-stock")
        self._up(far)
        # A service of the host, which runs before anybody joins.
        began = time.monotonic()
        self._near = self._daemon("home-stock")
        self.head_start = time.monotonic() - began
        return ipv4(far.addresses())

    def begin(self) -> None:
        self._joining = self._pool.submit(self._up, self._near)

    def joined(self) -> None:
        assert self._joining is not None, "begin comes first"
        self._joining.result(JOIN_SECONDS + 15)

    def path(self, address: str) -> str:
        peer = self._near.peer(address)
        if peer.get("CurAddr"):
            return "direct"
        return "relay" if peer.get("Active") and peer.get("Relay") else "idle"

    def end(self) -> None:
        self._stack.close()


def ipv4(addresses: list[str]) -> str:
    """The first IPv4 address."""
    for address in addresses:
        if ":" not in address:
            return address
    raise ProcessError(f"there is no IPv4 address among {addresses}")


def wait_until(ready: Callable[[], bool], what: str, timeout_seconds: float) -> float:
    """When `ready` said so. Raises `ProcessError`."""
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ProcessError(f"{what} took longer than {timeout_seconds:.0f} s")
        time.sleep(0.05)
    return time.monotonic()
