"""A port mapping brings two hosts behind hard routers together.

home -- home-router (hard, gives mappings) --+            +-- office-router (hard) -- office
                                             +- internet -+
                                   control, relay, STUN
"""

from __future__ import annotations

import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from support.agents import CONTROL, AgentHost, Mesh, mesh
from support.home_router import PCP_PORT, PMP_PORT, PUBLIC, HomeRouter
from support.lab import echo_udp, eventually, open_udp, require_namespaces
from support.requirements import require_nftables, require_program, require_root_netns, require_tun
from support.tunnel import ECHO_PORT, is_on
from warren_lab.net import Network, PublicHost, Router, RouterKind, Topology
from warren_lab.process import entering

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

LAN = IPv4Network("192.168.1.0/24")
OFFICE_WAN = IPv4Address("203.0.113.22")
ASKED_AT = 5351


@contextmanager
def giving_mappings(network: Network, router: HomeRouter, client: IPv4Address) -> Iterator[None]:
    """Answers in the home router's namespace, and lets in what it has promised."""

    def open_port(internal_port: int, external_port: int) -> None:
        rules = (
            "table ip mappings { chain pre { type nat hook prerouting priority -101; }; }\n"
            "flush chain ip mappings pre\n"
            f"add rule ip mappings pre ip daddr {PUBLIC} udp dport {external_port}"
            f" dnat to {client}:{internal_port}\n"
        )
        command = entering(["nft", "-f", "-"], network.namespace("home-router"))
        subprocess.run(command, input=rules, text=True, check=True, capture_output=True)

    router.on_map = open_port
    sock = open_udp(network, "home-router", ASKED_AT)
    stop, wake = socket.socketpair()

    def serve() -> None:
        while stop not in select.select([sock, stop], [], [])[0]:
            data, source = sock.recvfrom(2048)
            answer = router.answer(data, time.monotonic())
            if answer is not None:
                sock.sendto(answer, source)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        wake.close()
        thread.join()
        stop.close()
        sock.close()


@contextmanager
def hard_pair(folder: Path, router: HomeRouter) -> Iterator[tuple[Mesh, AgentHost]]:
    require_root_netns()
    require_namespaces()
    require_tun()
    require_nftables()
    plan = Topology(
        routers=(
            Router("home-router", PUBLIC, LAN, ("home",), kind=RouterKind.HARD),
            Router(
                "office-router", OFFICE_WAN, IPv4Network("192.168.2.0/24"), ("office",), kind=RouterKind.HARD
            ),
        ),
        public_hosts=(PublicHost("control", CONTROL),),
    )
    with mesh(folder, require_program("wireguard"), plan) as world:
        client = world.network.address("home")
        with giving_mappings(world.network, router, client):
            home, _ = world.joined("home", "office")
            with echo_udp(world.network, "office", ECHO_PORT):
                yield world, home


@pytest.mark.parametrize(
    ("router", "port"),
    [(HomeRouter(pcp=False), PMP_PORT), (HomeRouter(pmp=False), PCP_PORT)],
    ids=["nat-pmp", "pcp"],
)
def test_two_hard_routers_are_crossed_by_a_mapping_of_one(
    router: HomeRouter, port: int, tmp_path: Path
) -> None:
    with hard_pair(tmp_path, router) as (world, home):
        assert eventually(lambda: f"{PUBLIC}:{port}" in home.status()["endpoints"], within=30)
        address = str(home.peer("office")["addresses"][0])
        assert eventually(lambda: is_on(world, home, "office", "direct", address), within=30)
        office = world.hosts["office"]
        assert office.peer("home")["endpoint"] == f"{PUBLIC}:{port}"
