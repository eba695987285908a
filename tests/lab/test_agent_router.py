"""Our agent as the router of a network of plain machines, and as an exit node, for a stock client.

laptop (stock) -- home-router --+            +-- office-router --+-- office (ours)
                                +- internet -+                   +-- printer (no client)
                   control, relay, STUN      |
                                             +-- shop (no client)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from support.lab import accepting_tcp, connected, eventually, require_namespaces
from support.requirements import require_nftables, require_tun
from warren_lab import tools
from warren_lab.net import PublicHost, Router, Topology, namespaces
from warren_lab.scenario.nodes import OurNode, StockNode
from warren_lab.scenario.overlay import Overlay, sides

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

LAN = IPv4Network("192.168.2.0/24")
HOME_WAN, OFFICE_WAN = IPv4Address("203.0.113.21"), IPv4Address("203.0.113.22")
SHOP = IPv4Address("203.0.113.80")
MESH = "100.64.0.0/10"
PORT = 8080
PLAN = Topology(
    routers=(
        Router("home-router", HOME_WAN, IPv4Network("192.168.1.0/24"), ("laptop",)),
        Router("office-router", OFFICE_WAN, LAN, ("office", "printer")),
    ),
    public_hosts=(PublicHost("shop", SHOP),),
)


@dataclass
class World:
    overlay: Overlay
    office: OurNode
    laptop: StockNode

    def office_offers(self, *ranges: str, **settings: Any) -> None:
        """A restarted agent offers these ranges, and all of them are approved."""
        self.office.agent.configure(advertise_routes=list(ranges), **settings)
        self.office.restart()
        self.office.joined()
        assert eventually(lambda: set(self._node()["advertised_routes"]) == set(ranges))
        path, wanted = f"/nodes/{self._node()['id']}", {"approved_routes": list(ranges)}
        status, answer = self.overlay.control.api("PATCH", path, wanted)
        assert status == 200, answer

    def _node(self) -> dict[str, Any]:
        _, answer = self.overlay.control.api("GET", "/nodes?name=office")
        (node,) = answer["nodes"]
        return dict(node)

    def source_seen_by(self, address: IPv4Address) -> str | None:
        """Who a server takes the laptop for."""
        try:
            with connected(self.overlay.network, "laptop", address, PORT) as sock:
                return sock.makefile().readline().strip()
        except OSError:
            return None

    def shows_laptop_as(self, address: IPv4Address, source: str) -> bool:
        return self.source_seen_by(address) == source


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_namespaces()
    require_tun()
    require_nftables()
    with Overlay(PLAN, tools.ensure(("wireguard", "peers"))) as overlay:
        # The agent turns no switch of the host.
        namespaces.set_kernel_values(overlay.network.namespace("office"), {"net/ipv4/ip_forward": "1"})
        overlay.join(sides(("office",), ("laptop",)))
        office, laptop = overlay.nodes["office"], overlay.nodes["laptop"]
        assert isinstance(office, OurNode)
        assert isinstance(laptop, StockNode)
        yield World(overlay, office, laptop)


def test_machines_that_know_nothing_of_the_mesh_are_reached_as_the_router(world: World) -> None:
    printer = world.overlay.network.address("printer")
    with accepting_tcp(world.overlay.network, "printer", PORT):
        assert world.source_seen_by(printer) is None
        world.office_offers(str(LAN))
        router = str(world.overlay.network.address("office"))
        assert eventually(partial(world.shows_laptop_as, printer, router), within=30)


def test_without_masquerade_machines_with_a_way_back_see_the_client_itself(world: World) -> None:
    network = world.overlay.network
    printer, router = network.address("printer"), network.address("office")
    world.office_offers(str(LAN), masquerade=False)
    with accepting_tcp(network, "printer", PORT):
        back = ["ip", "route", "add", MESH, "via", str(router)]
        assert world.overlay.run.call(back, namespace=network.namespace("printer")).returncode == 0
        assert eventually(partial(world.shows_laptop_as, printer, world.laptop.address), within=30)


def test_a_stock_client_leaves_by_our_exit_node_and_comes_back(world: World) -> None:
    world.office_offers("0.0.0.0/0", "::/0", masquerade=True)
    daemon = world.laptop.daemon
    with accepting_tcp(world.overlay.network, "shop", PORT):
        assert world.source_seen_by(SHOP) == str(HOME_WAN)
        assert eventually(lambda: bool(daemon.peer(world.office.address).get("ExitNodeOption")), within=30)
        daemon.ok("set", f"--exit-node={world.office.address}")
        assert eventually(partial(world.shows_laptop_as, SHOP, str(OFFICE_WAN)), within=30)
        # What the router itself asks of its peers still works.
        assert world.office.agent.call("ping", "laptop").returncode == 0
        daemon.ok("set", "--exit-node=")
        assert eventually(partial(world.shows_laptop_as, SHOP, str(HOME_WAN)), within=30)
