"""Our agents in a mesh that Headscale runs, together with a stock client: each reaches each, by both ways.

home (ours) -- home-router --+            +-- office-router -- office (stock)
                             +- internet -+
 Headscale, its relay, its STUN            +-- club-router -- club (ours)
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import permutations
from pathlib import Path

import pytest

from support.lab import eventually, require_namespaces
from support.requirements import require_nftables, require_program, require_tun
from warren_lab import tools
from warren_lab.certificates import Authority
from warren_lab.errors import ToolError
from warren_lab.hosts import Headscale, Tailscaled, WarrenAgent
from warren_lab.net import Network, PublicHost, Router, RouterKind, Topology
from warren_lab.process import entering
from warren_lab.run import Run
from warren_lab.tools import Toolbox

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

CONTROL = IPv4Address("203.0.113.10")
ROUTERS = {
    "home": IPv4Address("203.0.113.21"),
    "office": IPv4Address("203.0.113.22"),
    "club": IPv4Address("203.0.113.23"),
}
OURS, STOCK = ("home", "club"), ("office",)


@dataclass(frozen=True, slots=True)
class World:
    network: Network
    server: Headscale
    agents: dict[str, WarrenAgent]
    stock: dict[str, Tailscaled]
    addresses: dict[str, tuple[str, ...]]
    """Mesh addresses of every host."""

    def reaches(self, source: str, target: str) -> bool:
        """Whether the kernel of one host answers pings of another, at every mesh address it has."""
        busybox = require_program("busybox")
        commands = (
            entering([busybox, "ping", "-c1", "-W2", address], self.network.namespace(source))
            for address in self.addresses[target]
        )
        return all(
            subprocess.run(each, capture_output=True, check=False).returncode == 0 for each in commands
        )

    def is_direct(self, source: str, target: str) -> bool:
        address = self.addresses[target][0]
        if source in self.stock:
            return bool(self.stock[source].peer(address).get("CurAddr"))
        return self.agents[source].peer(address).get("path") == "direct"

    def missing(self, *, direct: bool) -> list[str]:
        """The pairs that do not reach each other in this way."""
        return [
            f"{source} to {target}"
            for source, target in permutations(ROUTERS, 2)
            if not self.reaches(source, target) or self.is_direct(source, target) != direct
        ]


def toolbox() -> Toolbox:
    try:
        return tools.ensure(("headscale", "client", "wireguard"))
    except ToolError as error:
        pytest.skip(f"needs the built programs: {error}")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    require_namespaces()
    require_tun()
    require_nftables()
    programs = toolbox()
    plan = Topology(
        routers=tuple(
            Router(
                f"{name}-router", wan, IPv4Network(f"192.168.{number}.0/24"), (name,), kind=RouterKind.EASY
            )
            for number, (name, wan) in enumerate(ROUTERS.items(), start=1)
        ),
        public_hosts=(PublicHost("control", CONTROL),),
    )
    with ExitStack() as stack:
        run = stack.enter_context(Run(tmp_path / "lab"))
        network = stack.enter_context(Network(plan, run.prefix))
        for name in ROUTERS:
            network.set_udp(f"{name}-router", False)
        authority = Authority.create(tmp_path)
        namespace = network.namespace("control")
        server = Headscale(run, programs, "hs", namespace=namespace, address=CONTROL, authority=authority)
        agents: dict[str, WarrenAgent] = {}
        stock: dict[str, Tailscaled] = {}
        for name in OURS:
            agents[name] = stack.enter_context(
                WarrenAgent(run, programs, name, namespace=network.namespace(name), control=server)
            )
            agents[name].up()
        for name in STOCK:
            stock[name] = stack.enter_context(
                Tailscaled(run, programs, name, namespace=network.namespace(name), ca_file=server.ca_file)
            )
            stock[name].up(server.url, server.join_key)
        for agent in agents.values():
            agent.wait_ready(60)
        addresses = {name: tuple(each.addresses()) for name, each in (agents | stock).items()}
        yield World(network, server, agents, stock, addresses)


def test_every_pair_is_relayed_then_direct_then_relayed_again(world: World) -> None:
    assert {node["given_name"] for node in world.server.nodes()} == set(ROUTERS)
    assert eventually(lambda: world.missing(direct=False) == [], within=90, every=0.5), world.missing(
        direct=False
    )
    for name in ROUTERS:
        world.network.set_udp(f"{name}-router", True)
    assert eventually(lambda: world.missing(direct=True) == [], within=90, every=0.5), world.missing(
        direct=True
    )
    for name in ROUTERS:
        world.network.set_udp(f"{name}-router", False)
    assert eventually(lambda: world.missing(direct=False) == [], within=90, every=0.5), world.missing(
        direct=False
    )
