"""What happens to the network while packets flow, and how nodes come out of it. One mesh lives through all.

home (ours) -- home-router --+            +-- office-router -- office (ours)
sleeper (ours) -- its own ---+- internet -+-- shop-router -- shop (stock)
                  control, two relays (derper)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Network

import pytest

from support.lab import accepting_tcp, connected, eventually, require_namespaces
from support.requirements import require_nftables, require_tun
from warren_lab import tools
from warren_lab.net import Router, Topology
from warren_lab.scenario.nodes import Node, OurNode, Via
from warren_lab.scenario.observe import both_direct
from warren_lab.scenario.overlay import Overlay, sides
from warren_lab.scenario.probe import Probe

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

ANSWER_SECONDS = 45.0
DIRECT_SECONDS = 45.0
IDLE_SECONDS = 47.0
"""Longer than either program keeps a path alive that nobody uses (45 s)."""
MAPPING_SECONDS = 5
TCP_PORT = 7001
PLAN = Topology(
    routers=tuple(
        Router(
            f"{host}-router", IPv4Address(f"203.0.113.{last}"), IPv4Network(f"192.168.{last}.0/24"), (host,)
        )
        for last, host in enumerate(("home", "office", "shop", "sleeper"), start=20)
    )
)


class World:
    """The mesh, and the packets that flow from home to the others."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.network = overlay.network
        self.home = our(overlay, "home")
        self.office = our(overlay, "office")
        self.shop = overlay.nodes["shop"]
        self.sleeper = our(overlay, "sleeper")
        self.slept_since = 0.0

    @contextmanager
    def traffic(self) -> Iterator[Traffic]:
        """Datagrams to office and shop, which are reached directly when it begins."""
        with ExitStack() as stack:
            probes = {
                far.name: stack.enter_context(Probe(self.home.namespace, far.address)) for far in self.fars()
            }
            flow = Traffic(self, probes)
            flow.wait_direct()
            yield flow

    def fars(self) -> tuple[Node, Node]:
        return (self.office, self.shop)


class Traffic:
    """Packets that flow."""

    def __init__(self, world: World, probes: dict[str, Probe]) -> None:
        self._world = world
        self._probes = probes

    def wait_answered(self) -> None:
        """Packets sent from now on come back from everybody."""
        now = time.monotonic()
        for probe in self._probes.values():
            probe.wait_for_answer(now, ANSWER_SECONDS)

    def wait_direct(self) -> None:
        world = self._world
        for far in world.fars():
            found = eventually(lambda far=far: both_direct(world.home, far), DIRECT_SECONDS)  # type: ignore[misc]
            assert found, f"{far.name}: {world.home.via(far.address)}, {far.via(world.home.address)}"
        self.wait_answered()

    def wait_relayed(self) -> None:
        world = self._world
        for far in world.fars():
            assert eventually(lambda far=far: world.home.via(far.address) is Via.RELAY, DIRECT_SECONDS)  # type: ignore[misc]
        self.wait_answered()


def our(overlay: Overlay, name: str) -> OurNode:
    node = overlay.nodes[name]
    assert isinstance(node, OurNode)
    return node


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_namespaces()
    require_tun()
    require_nftables()
    toolbox = tools.ensure(("wireguard", "peers"))
    with Overlay(PLAN, toolbox, relays=2, control_relay=False) as overlay:
        overlay.network.set_mapping_lifetime("sleeper-router", MAPPING_SECONDS)
        overlay.join(sides(("home", "office", "sleeper"), ("shop",)))
        made = World(overlay)
        for far in (made.office, made.shop):
            with Probe(made.sleeper.namespace, far.address) as probe:
                probe.wait_for_answer(time.monotonic(), ANSWER_SECONDS)
                assert eventually(lambda far=far: both_direct(made.sleeper, far), DIRECT_SECONDS)  # type: ignore[misc]
        made.slept_since = time.monotonic()
        yield made


def test_a_tcp_connection_outlives_the_direct_path_and_its_return(world: World) -> None:
    with (
        world.traffic() as traffic,
        accepting_tcp(world.network, "office", TCP_PORT),
        connected(world.network, "home", IPv4Address(world.office.address), TCP_PORT) as connection,
        connection.makefile("rw") as lines,
    ):
        connection.settimeout(ANSWER_SECONDS)

        def echoes(text: str) -> bool:
            lines.write(f"{text}\n")
            lines.flush()
            return lines.readline() == f"{text}\n"

        assert lines.readline()
        assert echoes("direct")
        world.network.set_udp("home-router", False)
        try:
            assert echoes("cut")
            traffic.wait_relayed()
            assert echoes("relayed")
        finally:
            world.network.set_udp("home-router", True)
        traffic.wait_direct()
        assert echoes("direct again")


def test_a_router_that_comes_back_with_another_address(world: World) -> None:
    with world.traffic() as traffic:
        address = IPv4Address("203.0.113.77")
        world.network.reboot("home-router", address)
        traffic.wait_answered()
        traffic.wait_direct()
        for far in world.fars():
            assert eventually(
                lambda far=far: (far.endpoint(world.home.address) or "").startswith(f"{address}:"),  # type: ignore[misc]
                DIRECT_SECONDS,
            )


def test_a_host_that_gets_another_address_under_traffic(world: World) -> None:
    with world.traffic() as traffic:
        connected_since = world.home.agent.status()["control"]["since"]
        world.network.readdress("home", IPv4Address("192.168.20.99"))
        traffic.wait_answered()
        traffic.wait_direct()
        endpoints = world.home.agent.status()["endpoints"]
        assert eventually(lambda: "192.168.20.99:41641" in world.home.agent.status()["endpoints"]), endpoints
        # The old connection is dead without a word, and the control server must hear of all this.
        assert eventually(
            lambda: world.home.agent.status()["control"]["since"] != connected_since, ANSWER_SECONDS
        )


def test_the_home_relay_of_a_relayed_node_dies_and_another_takes_over(world: World) -> None:
    with world.traffic() as traffic:
        world.network.set_udp("home-router", False)
        try:
            traffic.wait_relayed()
            dead = world.home.agent.status()["home_relay"]["code"]
            world.overlay.relays[dead].process.kill()
            traffic.wait_answered()
            assert eventually(lambda: world.home.agent.status()["home_relay"]["code"] != dead, ANSWER_SECONDS)
            traffic.wait_answered()
        finally:
            world.overlay.start_relay(dead)
            world.network.set_udp("home-router", True)
        traffic.wait_direct()


def test_all_restarted_at_once(world: World) -> None:
    with world.traffic() as traffic:
        for node in (world.home, world.office, world.shop):
            node.restart()
        traffic.wait_answered()
        traffic.wait_direct()


def test_without_its_control_server_the_mesh_works_on_and_a_restarted_node_too(world: World) -> None:
    with world.traffic() as traffic:
        world.overlay.control.process.kill()
        try:
            traffic.wait_answered()
            world.home.restart()
            assert eventually(lambda: world.home.agent.status() != {}, 20)
            traffic.wait_answered()
            traffic.wait_direct()
            assert not world.home.agent.status()["control"]["connected"]
            world.network.set_udp("home-router", False)
            traffic.wait_relayed()
        finally:
            world.network.set_udp("home-router", True)
            world.overlay.control.restart()
        traffic.wait_direct()
        assert eventually(lambda: bool(world.home.agent.status()["control"]["connected"]), ANSWER_SECONDS)


def test_after_a_long_silence_and_forgotten_mappings_the_next_packet_is_answered(world: World) -> None:
    """The router keeps mappings for seconds, and nobody has pinged since before the other tests."""
    assert eventually(
        lambda: time.monotonic() - world.slept_since > IDLE_SECONDS, within=IDLE_SECONDS, every=0.5
    )
    for far in world.fars():
        began = time.monotonic()
        with Probe(world.sleeper.namespace, far.address) as probe:
            probe.wait_for_answer(began, ANSWER_SECONDS)
            assert eventually(lambda far=far: both_direct(world.sleeper, far), DIRECT_SECONDS)  # type: ignore[misc]
