"""Our agent restarts while a stock client reaches it directly through both routers.

home (ours) -- home-router --+            +-- office-router -- office (stock)
                             +- internet -+
                   control, relay, STUN
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from support.agents import CONTROL, JOIN_KEY, AgentHost, Mesh, mesh
from support.lab import echo_udp, eventually, require_namespaces
from support.requirements import require_nftables, require_program, require_root_netns, require_tun
from support.tunnel import ECHO_PORT, answered, is_on, paths
from warren_lab.net import PublicHost, Router, RouterKind, Topology
from warren_lab.process import Process, entering

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

HOME_WAN, OFFICE_WAN = IPv4Address("203.0.113.21"), IPv4Address("203.0.113.22")


class Stock:
    """A stock client on the office host, driven through its command line."""

    def __init__(self, world: Mesh) -> None:
        self.namespace = world.network.namespace("office")
        self.socket = world.folder / "ts.sock"
        self._client = require_program("tailscale")
        self.daemon = Process(
            "tailscaled",
            [
                require_program("tailscaled"),
                f"--state={world.folder / 'ts.state'}",
                f"--statedir={world.folder}",
                f"--socket={self.socket}",
                "--tun=stock0",
                "--port=41641",
            ],
            log=world.folder / "tailscaled.log",
            namespace=self.namespace,
            environment={
                "TS_NO_LOGS_NO_SUPPORT": "true",
                "SSL_CERT_FILE": str(world.folder / "ca.crt"),
                "TS_DEBUG_FIREWALL_MODE": "nftables",
            },
        )

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self._client, f"--socket={self.socket}", *arguments]
        return subprocess.run(
            entering(command, self.namespace), capture_output=True, text=True, timeout=60, check=False
        )

    def up(self) -> str:
        """Join the mesh; its address."""
        assert eventually(lambda: self.socket.exists())
        flags = [f"--login-server=https://{CONTROL}", f"--auth-key={JOIN_KEY}", "--hostname=office"]
        answer = self.call("up", *flags, "--accept-dns=false")
        assert answer.returncode == 0, answer.stderr
        return self.call("ip", "-4").stdout.strip()

    def peer(self) -> dict[str, Any]:
        """What it says about its one peer."""
        peers = json.loads(self.call("status", "--json").stdout)["Peer"] or {}
        return dict(next(iter(peers.values()), {}))

    def is_direct(self) -> bool:
        return bool(self.peer().get("CurAddr"))


@contextmanager
def behind(
    home: RouterKind, office: RouterKind, folder: Path
) -> Iterator[tuple[Mesh, AgentHost, Stock, str]]:
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
        (agent,) = world.joined("home")
        stock = Stock(world)
        try:
            address = stock.up()
            with echo_udp(world.network, "office", ECHO_PORT):
                yield world, agent, stock, address
        finally:
            stock.daemon.kill()


def test_a_restarted_agent_keeps_the_direct_path_of_a_stock_peer(tmp_path: Path) -> None:
    with behind(RouterKind.EASY, RouterKind.EASY, tmp_path) as (world, home, stock, address):
        assert eventually(lambda: is_on(world, home, "office", "direct", address), within=30)
        home.start()
        assert eventually(lambda: is_on(world, home, "office", "direct", address), within=30)
        assert paths(home, "office") == ["direct"], home.log.read_text()
        assert eventually(lambda: answered(world, address) and stock.is_direct())
