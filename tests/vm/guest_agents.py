"""Whole agents with the kernel's WireGuard: relayed, direct, killed under traffic, removed.

home -- home-router --+            +-- office-router -- office
                      +- internet -+
            control, relay, STUN
"""

from __future__ import annotations

import difflib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from support.agents import CONTROL, AgentHost, Mesh, mesh
from support.lab import echo_udp, eventually
from support.tunnel import ECHO_PORT, answered
from warren_lab.net import PublicHost, Router, RouterKind, Topology
from warren_lab.patience import patient

HOME_WAN, OFFICE_WAN = IPv4Address("203.0.113.21"), IPv4Address("203.0.113.22")
OFFICE_WAN_LATER = IPv4Address("203.0.113.23")
STREAM_PORT = 7788
# The module itself does that to the whole namespace whenever a device of its comes up (`wg_open`).
REDIRECTS_OFF = ["-net.ipv4.conf.all.send_redirects = 1", "+net.ipv4.conf.all.send_redirects = 0"]
REKEY = timedelta(seconds=119)


class Connection(http.client.HTTPConnection):
    """To the agent's own socket: starting its command line takes ten seconds in the emulated machine."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=patient(20))
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(patient(20))
        self.sock.connect(self._path)


def ask(host: AgentHost, method: str, path: str) -> dict[str, Any]:
    connection = Connection(host.settings["socket"])
    try:
        connection.request(method, path)
        return dict(json.loads(connection.getresponse().read()))
    except OSError:
        return {}
    finally:
        connection.close()


def status(host: AgentHost) -> dict[str, Any]:
    return ask(host, "GET", "/status")


def ready(host: AgentHost) -> bool:
    found = status(host)
    return bool(found) and found["control"]["connected"] and bool(found["node"]["addresses"])


def peer(host: AgentHost) -> dict[str, Any]:
    return next(iter(status(host).get("peers", [])), {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    plan = Topology(
        routers=(
            Router("home-router", HOME_WAN, IPv4Network("192.168.1.0/24"), ("home",), kind=RouterKind.EASY),
            Router(
                "office-router", OFFICE_WAN, IPv4Network("192.168.2.0/24"), ("office",), kind=RouterKind.EASY
            ),
        ),
        public_hosts=(PublicHost("control", CONTROL),),
    )
    folder = tmp_path_factory.mktemp("mesh")
    with mesh(folder, "no-such-program", plan) as running:
        yield running


@pytest.fixture(scope="module")
def found(world: Mesh) -> dict[str, list[str]]:
    """The hosts before any agent ran."""
    return {name: world.host(name, data_plane="auto").traces() for name in ("home", "office")}


@pytest.fixture(scope="module")
def address(world: Mesh, found: dict[str, list[str]]) -> Iterator[str]:
    """Two agents that have joined; the address of office."""
    world.network.set_udp("home-router", False)
    for host in world.hosts.values():
        host.start()
    for host in world.hosts.values():
        assert eventually(lambda host=host: ready(host), within=90, every=0.5), host.log.read_text()  # type: ignore[misc]
    with echo_udp(world.network, "office", ECHO_PORT):
        yield str(status(world.hosts["office"])["node"]["addresses"][0])


def is_on(world: Mesh, path: str, address: str) -> bool:
    return answered(world, address) and peer(world.hosts["home"]).get("path") == path


def keeps_its_session(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Without another handshake than the regular ones, that come when a session is two minutes old."""
    passed = datetime.fromisoformat(after["last_handshake"]) - datetime.fromisoformat(
        before["last_handshake"]
    )
    return not passed or passed >= REKEY


def test_auto_means_the_kernel_and_relayed_packets_enter_and_leave_it(world: Mesh, address: str) -> None:
    home = world.hosts["home"]
    assert status(home)["data_plane"] == "kernel"
    assert eventually(lambda: is_on(world, "relay", address), within=60, every=0.5), peer(home)
    assert not [error for error in status(home)["errors"] if "forward" not in error]
    assert "from-mesh" in home.traces()[-2]


def test_the_path_becomes_direct_when_udp_passes(world: Mesh, address: str) -> None:
    home = world.hosts["home"]
    before = peer(home)
    world.network.set_udp("home-router", True)
    assert eventually(lambda: is_on(world, "direct", address), within=60, every=0.5), peer(home)
    assert peer(home)["endpoint"] == f"{OFFICE_WAN}:41641"
    assert keeps_its_session(before, peer(home))


def test_a_peer_whose_address_changes_is_followed_in_the_same_session(world: Mesh, address: str) -> None:
    home = world.hosts["home"]
    before = peer(home)
    world.network.reboot("office-router", OFFICE_WAN_LATER)
    assert eventually(
        lambda: is_on(world, "direct", address) and peer(home)["endpoint"] == f"{OFFICE_WAN_LATER}:41641",
        within=60,
        every=0.5,
    ), peer(home)
    assert keeps_its_session(before, peer(home))


class Stream:
    """Numbered packets from home to office through the tunnel, until stopped; which of them arrive."""

    def __init__(self, world: Mesh, address: str) -> None:
        self._sender = world.network.inside("home", self._make)
        self._receiver = world.network.inside("office", self._make)
        self._receiver.bind(("0.0.0.0", STREAM_PORT))
        self._receiver.settimeout(0.5)
        self._target = (address, STREAM_PORT)
        self._stop = threading.Event()
        self._given_up = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]
        self.sent = 0
        self.arrived: set[int] = set()
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _make() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def _send(self) -> None:
        while not self._stop.wait(0.01):
            self._sender.sendto(self.sent.to_bytes(8, "big"), self._target)
            self.sent += 1

    def _receive(self) -> None:
        while True:
            try:
                self.arrived.add(int.from_bytes(self._receiver.recv(64), "big"))
            except TimeoutError:
                if self._given_up.is_set():
                    return

    def flows(self) -> bool:
        """Whether a hundred more packets arrive."""
        goal = len(self.arrived) + 100
        return eventually(lambda: len(self.arrived) >= goal, within=20)

    def end(self) -> int:
        """Packets that never arrived."""
        self._stop.set()
        self._threads[0].join()
        eventually(lambda: len(self.arrived) == self.sent)
        self._given_up.set()
        for thread in self._threads:
            thread.join()
        self._sender.close()
        self._receiver.close()
        return self.sent - len(self.arrived)


def test_an_agent_that_is_killed_and_started_again_loses_no_packet(
    world: Mesh, address: str, record_property: Callable[[str, object], None]
) -> None:
    home = world.hosts["home"]
    stream = Stream(world, address)
    try:
        assert stream.flows()
        assert home.process is not None
        home.process.kill()
        assert stream.flows()
        home.start()
        assert eventually(lambda: ready(home), within=60, every=0.5), home.log.read_text()
        assert stream.flows()
    finally:
        lost = stream.end()
    record_property("packets", stream.sent)
    assert lost == 0


def changes(before: list[str], after: list[str]) -> list[str]:
    """Lines that went and lines that came."""
    sides = ("\n".join(before).splitlines(), "\n".join(after).splitlines())
    return [
        line for line in difflib.unified_diff(*sides, n=0, lineterm="") if line[:2] not in ("--", "++", "@@")
    ]


def test_both_ends_removed_leave_the_hosts_as_they_were(
    world: Mesh, address: str, found: dict[str, list[str]]
) -> None:
    home, office = world.hosts["home"], world.hosts["office"]
    assert home.traces() != found["home"]
    ask(office, "POST", "/down")
    assert home.process is not None
    assert office.process is not None
    home.process.kill()
    answer = home.run("cleanup")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert eventually(lambda: not office.process.running, within=30)  # type: ignore[union-attr]
    for host in (home, office):
        assert changes(found[host.name], host.traces()) in ([], REDIRECTS_OFF)
    for host in (home, office):
        host.process = None
