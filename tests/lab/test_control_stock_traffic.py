"""The control server under stock clients of three releases: what goes through the mesh that it describes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from support import control_records
from support.lab import accepting_tcp, connected, eventually
from support.stock_world import OFFICE_LAN, OFFICE_WAN, SHOP, StockWorld, peer, running, until
from warren_control.db.engine import open_engine, parse_url
from warren_control.db.repository import Repository, Write
from warren_lab.errors import ProcessError
from warren_lab.hosts import Tailscaled, fetch, serve_folder
from warren_wire.keys import MachinePublic, NodePublic

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

EXIT_ROUTES = ["0.0.0.0/0", "::/0"]
HOME_WAN = "203.0.113.21"
OFFICE_GATEWAY = OFFICE_LAN.network_address + 1


@pytest.fixture(scope="module")
def printer(world: StockWorld) -> str:
    """The address of a host without a client in the office, which shows a page."""
    folder = world.folder / "page"
    folder.mkdir()
    (folder / "index.html").write_text("a page")
    serve_folder(world.run, "printer", namespace=world.network.namespace("printer"), folder=folder)
    return str(world.network.address("printer"))


@contextmanager
def offered(world: StockWorld, client: Tailscaled, *flags: str, routes: list[str]) -> Iterator[None]:
    """While it lasts the client offers routes; the server knows of them and nobody has approved them."""
    client.ok("set", *flags)
    assert eventually(lambda: set(world.node(client.name)["advertised_routes"]) == set(routes))
    yield
    client.ok("set", "--advertise-routes=", "--advertise-exit-node=false")
    world.patch(client.name, approved_routes=[])


def shows(world: StockWorld, address: str) -> bool:
    try:
        return fetch(world.network.namespace("laptop"), address, timeout_seconds=2) == "a page"
    except ProcessError:
        return False


def unplug(world: StockWorld, host: str) -> None:
    """Nothing comes or goes any more, and nobody is told."""
    down = ["ip", "link", "set", "eth0", "down"]
    assert world.run.call(down, namespace=world.network.namespace(host)).returncode == 0


def plug(world: StockWorld, host: str) -> None:
    namespace = world.network.namespace(host)
    for command in ("link set eth0 up", f"route add default via {OFFICE_GATEWAY}"):
        assert world.run.call(["ip", *command.split()], namespace=namespace).returncode == 0


def test_pings_of_every_kind_and_a_direct_path(world: StockWorld) -> None:
    assert "pong from office" in world.laptop.ping("office", count=10)
    for kind in ("--tsmp", "--icmp"):
        assert "pong from office" in world.laptop.ok("ping", "--c=1", kind, "office")
    assert "hit peerapi of " in world.laptop.ok("ping", "--c=1", "--peerapi", "office")
    for source, target in ((world.laptop, "office"), (world.office, "laptop")):
        assert "via 203.0.113." in source.ping(target, until_direct=True, count=10)
    for address in world.office.addresses():
        assert world.pings("laptop", address)


def test_the_relay_and_stun_inside_the_server_are_used(world: StockWorld) -> None:
    status = until(world.laptop, lambda status: status["Self"]["Relay"] == "home")
    assert peer(status, "office")["Relay"] == "home"
    report = world.laptop.ok("netcheck")
    assert "Nearest DERP: home" in report
    assert f"IPv4: yes, {HOME_WAN}:" in report


# Takes ten seconds, as it looks for an IPv6 address that is not there: one release must do.
@pytest.mark.parametrize("world", ["newest"], indirect=True)
def test_the_clients_own_test_of_the_relay_succeeds(world: StockWorld) -> None:
    about = "\n".join(json.loads(world.laptop.ok("debug", "derp", "home"))["Info"])
    assert "Successfully established a DERP connection" in about
    assert f"returned IPv4 STUN response: {HOME_WAN}:" in about


def test_another_relay_map_is_seen_at_once(world: StockWorld) -> None:
    region = {"RegionID": 901, "RegionCode": "far", "RegionName": "Far", "Nodes": []}
    node = {"Name": "901a", "RegionID": 901, "HostName": str(SHOP), "IPv4": str(SHOP), "STUNPort": -1}

    def regions() -> set[str]:
        return set(json.loads(world.laptop.ok("debug", "derp-map"))["Regions"])

    world.api("PUT", "/relays/901", region | {"Nodes": [node]})
    assert eventually(lambda: regions() == {"900", "901"})
    world.api("DELETE", "/relays/901")
    assert eventually(lambda: regions() == {"900"})
    assert "pong" in world.laptop.ping("office")


def test_traffic_goes_to_a_network_behind_a_member_once_approved(world: StockWorld, printer: str) -> None:
    network = str(OFFICE_LAN)
    assert not shows(world, printer)
    with offered(world, world.office, f"--advertise-routes={network}", routes=[network]):
        assert not peer(world.laptop.status(), "office").get("PrimaryRoutes")
        assert f"{network} (offered)" in world.warren("nodes", "list")
        world.warren("routes", "approve", "office", network)
        until(world.laptop, lambda status: peer(status, "office").get("PrimaryRoutes") == [network])
        assert network in peer(world.laptop.status(), "office")["AllowedIPs"]
        assert shows(world, printer)
        until(world.office, lambda status: network in status["Self"].get("PrimaryRoutes", ()))
        world.warren("routes", "revoke", "office", network)
        until(world.laptop, lambda status: not peer(status, "office").get("PrimaryRoutes"))
        assert not shows(world, printer)


def test_another_router_takes_over_and_keeps_the_network(world: StockWorld, printer: str) -> None:
    network = str(OFFICE_LAN)
    offer = f"--advertise-routes={network}"
    with world.guest("spare", "spare") as spare, offered(world, world.office, offer, routes=[network]):
        world.warren("routes", "approve", "office", network)
        spare.ok("set", offer)
        assert eventually(lambda: world.node("spare")["advertised_routes"] == [network])
        world.warren("routes", "approve", "spare")
        until(world.laptop, lambda status: peer(status, "office").get("PrimaryRoutes") == [network])
        assert not peer(world.laptop.status(), "spare").get("PrimaryRoutes")
        unplug(world, "office")
        taken = lambda status: peer(status, "spare").get("PrimaryRoutes") == [network]  # noqa: E731
        moved = until(world.laptop, taken, within=60)
        assert network not in peer(moved, "office")["AllowedIPs"]
        assert peer(moved, "office")["Online"] is False
        seen = datetime.fromisoformat(peer(moved, "office")["LastSeen"])
        assert abs(datetime.now(UTC) - seen) < timedelta(minutes=1)
        assert eventually(lambda: shows(world, printer))
        plug(world, "office")
        until(world.laptop, lambda status: peer(status, "office").get("Online"))
        assert peer(world.laptop.status(), "spare")["PrimaryRoutes"] == [network]


def test_traffic_leaves_through_an_exit_node(world: StockWorld) -> None:
    def seen_by_shop() -> str:
        with connected(world.network, "laptop", SHOP, 7777) as connection:
            return connection.recv(100).decode().strip()

    with (
        accepting_tcp(world.network, "shop", 7777),
        offered(world, world.office, "--advertise-exit-node", routes=EXIT_ROUTES),
    ):
        assert not peer(world.laptop.status(), "office").get("ExitNodeOption")
        world.warren("routes", "approve", "office")
        until(world.laptop, lambda status: peer(status, "office").get("ExitNodeOption"))
        assert "office.mesh.internal" in world.laptop.ok("exit-node", "list")
        assert seen_by_shop() == HOME_WAN
        world.laptop.ok("set", "--exit-node=office")
        until(world.laptop, lambda status: peer(status, "office").get("ExitNode"))
        assert seen_by_shop() == str(OFFICE_WAN)
        world.laptop.ok("set", "--exit-node=")
        assert seen_by_shop() == HOME_WAN


def test_a_4via6_network_is_an_ordinary_route(world: StockWorld, printer: str) -> None:
    via = world.laptop.ok("debug", "via", "7", str(OFFICE_LAN)).strip()
    inside = world.laptop.ok("debug", "via", "7", f"{printer}/32").strip().partition("/")[0]
    with offered(world, world.office, f"--advertise-routes={via}", routes=[via]):
        world.warren("routes", "approve", "office", via)
        until(world.laptop, lambda status: peer(status, "office").get("PrimaryRoutes") == [via])
        assert shows(world, inside)


def test_names_are_answered_by_the_clients_own_resolver(world: StockWorld) -> None:
    v4, _ = world.office.addresses()
    assert v4 in world.laptop.ok("dns", "query", "office.mesh.internal.")
    reverse = ".".join(reversed(v4.split("."))) + ".in-addr.arpa."
    assert "office.mesh.internal." in world.laptop.ok("dns", "query", reverse, "PTR")
    settings = world.laptop.ok("dns", "status", "--all")
    assert "MagicDNS: enabled tailnet-wide (suffix = mesh.internal)" in settings
    assert "lab.example.net" in settings
    assert "- mesh.internal" in settings


def test_an_extra_record_comes_and_goes(world: StockWorld) -> None:
    def resolves() -> bool:
        return "100.64.0.77" in world.laptop.call(["dns", "query", "nas.example.net."]).stdout

    world.records.write_text('[{"name": "nas.example.net", "value": "100.64.0.77"}]')
    assert eventually(resolves)
    world.records.write_text("[]")
    assert eventually(lambda: not resolves())


def test_magic_names_can_be_switched_off(world: StockWorld) -> None:
    world.server.restart(dns={"magic": False, "extra_records_file": str(world.records)})
    until(
        world.laptop, lambda status: running(status) and not status["CurrentTailnet"]["MagicDNSEnabled"], 60
    )
    assert "MagicDNS: disabled tailnet-wide" in world.laptop.ok("dns", "status", "--all")
    world.server.restart()
    until(world.laptop, lambda status: running(status) and status["CurrentTailnet"]["MagicDNSEnabled"], 60)


def test_another_disco_key_reaches_peers(world: StockWorld) -> None:
    if world.release == "newest":
        world.office.ok("debug", "rotate-disco-key")
    else:
        # The others have no such command: a new process brings a new key as well.
        world.office.restart()
        until(world.office, running)
    assert "via 203.0.113." in world.laptop.ping("office", until_direct=True, count=10)


def test_files_go_between_machines_of_a_user_alone(world: StockWorld) -> None:
    file = world.folder / "letter.txt"
    file.write_text("a letter")
    inbox = world.folder / "inbox"
    inbox.mkdir()
    with world.guest("guest") as guest:
        until(world.office, lambda status: peer(status, "guest").get("Online"))
        assert eventually(lambda: world.office.call(["file", "cp", str(file), "guest:"]).returncode == 0)
        guest.ok("file", "get", str(inbox))
        assert (inbox / "letter.txt").read_text() == "a letter"
        refused = world.laptop.call(["file", "cp", str(file), "guest:"])
        assert refused.returncode != 0
        assert "different user" in refused.stderr
    (inbox / "letter.txt").unlink()
    inbox.rmdir()


def test_what_is_not_offered_is_said_plainly(world: StockWorld) -> None:
    assert "NOT enabled" in world.laptop.ok("lock", "status")
    assert "No exit node suggestion" in world.laptop.ok("exit-node", "suggest")
    served = world.laptop.call(["serve", "--bg", "3000"], 5)
    assert "does not offer" in served.stdout + served.stderr
    assert "501" not in served.stdout + served.stderr


def test_changes_of_a_peer_come_as_deltas_that_rebuild_nothing(world: StockWorld) -> None:
    def handled() -> dict[str, int]:
        lines = world.laptop.ok("debug", "metrics").splitlines()
        counted = (line.split() for line in lines if line.startswith("controlclient_map_response_"))
        return {name.removeprefix("controlclient_map_response_"): int(value) for name, value in counted}

    with world.guest("guest"):
        until(world.laptop, lambda status: peer(status, "guest").get("Online"))
        before = handled()
        for name in ("first", "second", "third"):
            world.api("PATCH", f"/nodes/{world.api('GET', '/nodes')['nodes'][-1]['id']}", {"name": name})
            until(world.laptop, lambda status, name=name: peer(status, name))  # type: ignore[misc]
        after = handled()
    assert after["map_delta"] >= before["map_delta"] + 3
    assert after["map_delta"] - before["map_delta"] == after["map"] - before["map"]
    # The oldest release does not count how it took them.
    rebuilt = [each.get("handled_full_rebuild", 0) for each in (before, after)]
    assert rebuilt[0] == rebuilt[1]


@pytest.mark.parametrize("world", ["newest"], indirect=True)
def test_a_map_of_two_thousand_nodes_is_taken_at_once(world: StockWorld) -> None:
    database = world.server.folder / "control.db"
    world.server.close()
    before = database.read_bytes()
    asyncio.run(_fill(database, 1998))
    world.server.start()
    status = until(world.laptop, lambda status: len(status.get("Peer") or ()) == 1999, within=60)
    assert running(status)
    assert peer(status, "many1234")["TailscaleIPs"][0] == "100.64.5.82"
    assert "pong" in world.laptop.ping("office", count=10)
    world.server.close()
    database.write_bytes(before)
    world.server.start()
    until(world.laptop, lambda status: len(status["Peer"]) == 1, within=60)


async def _fill(database: Path, count: int) -> None:
    """Records of machines that are away."""
    repository = Repository(await open_engine(parse_url(f"sqlite:///{database}")))
    first = 100

    def keyed(number: int) -> bytes:
        return number.to_bytes(4, "big") + bytes(28)

    nodes = [
        control_records.node(
            1,
            id=first + number,
            name=f"many{number}",
            machine_key=MachinePublic(b"m" + keyed(number)[:31]),
            node_key=NodePublic(b"n" + keyed(number)[:31]),
            v4=IPv4Address("100.64.0.128") + number,
            v6=IPv6Address("fd7a:115c:a1e0::8000") + number,
        )
        for number in range(count)
    ]
    await repository.write(Write(nodes=nodes, next_node_id=first + count))
    await repository.close()
