"""Two agents behind routers: which path they find, and what they do when it dies.

home -- home-router --+            +-- office-router -- office
                      +- internet -+
            control, relay, STUN
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from support.agents import CONTROL, AgentHost, Mesh, mesh
from support.lab import echo_udp, eventually, require_namespaces
from support.requirements import require_nftables, require_program, require_root_netns, require_tun
from support.tunnel import ECHO_PORT, answered, is_on, paths
from warren_lab.net import PublicHost, Router, RouterKind, Topology

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

HOME_WAN, OFFICE_WAN = IPv4Address("203.0.113.21"), IPv4Address("203.0.113.22")


@contextmanager
def behind(home: RouterKind, office: RouterKind, folder: Path) -> Iterator[tuple[Mesh, AgentHost, AgentHost]]:
    require_root_netns()
    require_namespaces()
    require_tun()
    require_nftables()
    plan = Topology(
        routers=(
            Router("home-router", HOME_WAN, IPv4Network("192.168.1.0/24"), ("home",), kind=home),
            Router("office-router", OFFICE_WAN, IPv4Network("192.168.2.0/24"), ("office",), kind=office),
        ),
        public_hosts=(PublicHost("control", CONTROL),),
    )
    with mesh(folder, require_program("wireguard"), plan) as world:
        one, other = world.joined("home", "office")
        with echo_udp(world.network, "office", ECHO_PORT):
            yield world, one, other


def test_behind_two_easy_routers_the_path_is_relayed_then_direct_and_follows_cuts(tmp_path: Path) -> None:
    with behind(RouterKind.EASY, RouterKind.EASY, tmp_path) as (world, home, office):
        address = office.address()
        assert eventually(lambda: answered(world, address), within=20)
        assert eventually(lambda: is_on(world, home, "office", "direct", address), within=30)
        assert paths(home, "office")[:2] == ["relay", "direct"]
        assert home.peer("office")["endpoint"] == f"{OFFICE_WAN}:41641"

        world.network.set_udp("home-router", False)
        assert eventually(lambda: is_on(world, home, "office", "relay", address), within=30)
        assert eventually(lambda: office.peer("home")["path"] == "relay", within=30)

        world.network.set_udp("home-router", True)
        assert eventually(lambda: is_on(world, home, "office", "direct", address), within=30)
        assert eventually(lambda: is_on(world, office, "home", "direct", address), within=30)


def test_behind_two_hard_routers_the_path_stays_relayed(tmp_path: Path) -> None:
    with behind(RouterKind.HARD, RouterKind.HARD, tmp_path) as (world, home, office):
        address = office.address()
        assert eventually(lambda: is_on(world, home, "office", "relay", address), within=20)
        assert not eventually(lambda: "direct" in paths(home, "office"), within=5)
        assert answered(world, address)


def test_where_udp_is_blocked_a_home_relay_is_found_all_the_same(tmp_path: Path) -> None:
    with behind(RouterKind.TCP_443, RouterKind.EASY, tmp_path) as (world, home, office):
        address = office.address()
        assert eventually(lambda: is_on(world, home, "office", "relay", address), within=30)
        assert home.status()["home_relay"] is not None
