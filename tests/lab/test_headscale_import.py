"""A mesh moves from a real Headscale to this server: nobody logs in again and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from support.lab import eventually, require_namespaces
from support.requirements import require_program, require_tun
from support.stock_world import peer, running, until
from warren_lab import tools
from warren_lab.certificates import Authority
from warren_lab.hosts import Headscale, Tailscaled, WarrenControl
from warren_lab.net import Network, PublicHost, Router, Topology
from warren_lab.run import Run

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

CONTROL = IPv4Address("203.0.113.10")
OFFICE_LAN = IPv4Network("192.168.2.0/24")
PLAN = Topology(
    routers=(
        Router("home-router", IPv4Address("203.0.113.21"), IPv4Network("192.168.1.0/24"), ("laptop",)),
        Router("office-router", IPv4Address("203.0.113.22"), OFFICE_LAN, ("office",)),
    ),
    public_hosts=(PublicHost("control", CONTROL),),
)


@dataclass(frozen=True, slots=True)
class Mesh:
    run: Run
    network: Network
    authority: Authority
    headscale: Headscale
    clients: dict[str, Tailscaled]

    def pings(self, source: str, address: str) -> bool:
        command = [require_program("busybox"), "ping", "-c1", "-W2", address]
        return self.run.call(command, namespace=self.network.namespace(source)).returncode == 0


RELEASES = {"laptop": "oldest", "office": "newest"}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    require_namespaces()
    require_tun()
    programs = tools.ensure(("headscale", *RELEASES.values()))
    with ExitStack() as stack:
        run = stack.enter_context(Run(tmp_path / "lab"))
        network = stack.enter_context(Network(PLAN, run.prefix))
        authority = Authority.create(run.path)
        namespace = network.namespace("control")
        server = Headscale(run, programs, "hs", namespace=namespace, address=CONTROL, authority=authority)
        clients: dict[str, Tailscaled] = {}
        for name, release in RELEASES.items():
            clients[name] = stack.enter_context(
                Tailscaled(
                    run,
                    programs,
                    name,
                    namespace=network.namespace(name),
                    ca_file=server.ca_file,
                    release=release,
                )
            )
            clients[name].up(server.url, server.join_key)
        yield Mesh(run, network, authority, server, clients)


def test_clients_of_headscale_go_on_here_without_a_login(mesh: Mesh) -> None:
    laptop, office = mesh.clients["laptop"], mesh.clients["office"]
    office.ok("set", f"--advertise-routes={OFFICE_LAN}")
    assert eventually(lambda: mesh.headscale.nodes()[1].get("available_routes") == [str(OFFICE_LAN)])
    mesh.headscale.approve_routes(2, str(OFFICE_LAN))
    until(laptop, lambda status: peer(status, "office").get("PrimaryRoutes") == [str(OFFICE_LAN)])
    before = {name: client.status()["Self"] for name, client in mesh.clients.items()}
    mesh.headscale.close()

    warren = WarrenControl(
        mesh.run,
        "warren",
        namespace=mesh.network.namespace("control"),
        address=CONTROL,
        authority=mesh.authority,
        started=False,
    )
    database, key = mesh.headscale.folder / "db.sqlite", mesh.headscale.folder / "noise.key"
    said = warren.command("import", "headscale", "--database", str(database), "--noise-key", str(key))
    assert said.startswith("2 nodes and 1 users taken over")
    warren.start()

    for name, client in mesh.clients.items():
        after = until(client, running, within=90)["Self"]
        assert after["PublicKey"] == before[name]["PublicKey"]
        assert after["TailscaleIPs"] == before[name]["TailscaleIPs"]
    status = until(laptop, lambda status: peer(status, "office").get("Online"))
    assert peer(status, "office")["PrimaryRoutes"] == [str(OFFICE_LAN)]
    assert {user["LoginName"] for user in status["User"].values()} == {"home"}
    assert eventually(lambda: mesh.pings("laptop", before["office"]["TailscaleIPs"][0]), within=60)
    # Its relay is this server's from now on.
    until(laptop, lambda status: json.loads(laptop.ok("debug", "derp-map"))["Regions"].keys() == {"900"})
    until(laptop, lambda status: status["Self"]["Relay"] == "home", within=60)
