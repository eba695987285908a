"""Our agent behind a home router that speaks UPnP alone, and a stock peer: a mapping, and every kind of ping.

home (ours) -- home-router (hard, miniupnpd) --+            +-- office-router (hard) -- office (stock)
                                               +- internet -+
                                          control, relay, STUN
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from support.lab import eventually, require_namespaces
from support.requirements import require_nftables, require_tun
from warren_lab import tools
from warren_lab.hosts.port_mapper import PortMapper
from warren_lab.net import Router, RouterKind, Topology
from warren_lab.process import entering
from warren_lab.scenario.nodes import OurNode, StockNode
from warren_lab.scenario.observe import Reach, observe
from warren_lab.scenario.overlay import Overlay, sides

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

PLAN = Topology(
    routers=tuple(
        Router(
            f"{host}-router",
            IPv4Address(f"203.0.113.{20 + number}"),
            IPv4Network(f"192.168.{number}.0/24"),
            (host,),
            kind=RouterKind.HARD,
        )
        for number, host in ((1, "home"), (2, "office"))
    )
)


@dataclass
class World:
    overlay: Overlay
    mapper: PortMapper
    home: OurNode
    office: StockNode

    def answer(self, *arguments: str) -> dict[str, Any]:
        """What the agent's command line says, which must succeed."""
        done = self.home.agent.call(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def mappings(self) -> str:
        """The router's own list."""
        command = ["nft", "list", "chain", "inet", "miniupnpd", "prerouting_miniupnpd"]
        namespace = self.overlay.network.namespace("home-router")
        done = subprocess.run(entering(command, namespace), capture_output=True, text=True, check=True)
        return "\n".join(line for line in done.stdout.splitlines() if "dnat" in line)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_namespaces()
    require_tun()
    require_nftables()
    with Overlay(PLAN, tools.ensure(("wireguard", "peers"))) as overlay:
        mapper = PortMapper(overlay.run, overlay.network, "home-router")
        home = OurNode(
            overlay.run,
            overlay.toolbox,
            "home",
            namespace=overlay.network.namespace("home"),
            control=overlay.control,
            settings={"port_mapping": ["upnp"]},
        )
        overlay.nodes["home"] = home
        home.begin()
        overlay.join(sides((), ("office",)))
        home.joined()
        office = overlay.nodes["office"]
        assert isinstance(office, StockNode)
        yield World(overlay, mapper, home, office)


def test_a_router_with_upnp_alone_gives_a_mapping_that_brings_two_hard_nats_together(world: World) -> None:
    def mapping() -> dict[str, Any]:
        return dict(world.answer("netcheck")["port_mapping"])

    assert eventually(lambda: mapping()["by"] == "upnp", within=30)
    found = mapping()
    assert found["external"].partition(":")[0] == str(world.mapper.public_address)
    assert found["seen"] == found["enabled"] == ["upnp"]
    assert found["external"].partition(":")[2] in world.mappings()
    assert observe(world.home, world.office, 30).reach is Reach.DIRECT


@pytest.mark.parametrize("kind", ["disco", "tsmp", "icmp"])
def test_a_stock_peer_answers_every_kind_of_ping(world: World, kind: str) -> None:
    found = world.answer("ping", "office", "--kind", kind)
    assert (found["answered"], found["kind"], found["name"]) == (True, kind, "office")
    assert found["latency_ms"] > 0


@pytest.mark.parametrize("kind", ["--tsmp", "--icmp", "--until-direct"])
def test_every_kind_of_ping_of_a_stock_peer_is_answered(world: World, kind: str) -> None:
    flags = [kind] if kind == "--until-direct" else [kind, "--c=1"]
    done = world.office.daemon.call(["ping", *flags, "--timeout=10s", world.home.address])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pong from" in done.stdout


def test_an_agent_that_is_taken_down_gives_its_mapping_back(world: World) -> None:
    assert world.mappings()
    assert world.home.agent.call("down").returncode == 0
    assert eventually(lambda: not world.mappings(), within=10)
