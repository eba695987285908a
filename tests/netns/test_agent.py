"""Whole agents against a real control server, with real userspace WireGuard.

home --+            +-- office
       +- internet -+
control (203.0.113.10)
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

from support.agents import AgentHost, Mesh, mesh
from support.lab import accepting_tcp, connected, eventually, open_udp, require_namespaces
from support.requirements import require_nftables, require_program, require_root_netns, require_tun
from warren_lab.process import Process, entering

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

PORT = 8080


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Mesh]:
    require_root_netns()
    require_namespaces()
    require_tun()
    require_nftables()
    with mesh(tmp_path, require_program("wireguard")) as running:
        yield running


def source_seen(world: Mesh, host: str, address: str) -> str | None:
    """Who a server sees when `host` connects to it, or None if there is no connection."""
    try:
        with connected(world.network, host, ip_address(address), PORT) as sock:
            return sock.makefile().readline().strip()
    except OSError:
        return None


def is_seen_from_mesh(world: Mesh, host: AgentHost, address: str) -> bool:
    return source_seen(world, host.name, address) in host.status()["node"]["addresses"]


def echoes(sock: socket.socket) -> bool:
    sock.settimeout(20.0)
    sock.sendall(b"x")
    return sock.recv(1) == b"x"


def test_two_hosts_join_and_reach_each_other_directly(world: Mesh) -> None:
    home, office = world.joined("home", "office")
    with accepting_tcp(world.network, "office", PORT):
        for address in office.status()["node"]["addresses"]:
            assert eventually(partial(is_seen_from_mesh, world, home, address))
        assert eventually(lambda: home.peer("office").get("path") == "direct")
    peer = home.peer("office")
    assert peer["endpoint"] == "203.0.113.12:41641"
    assert peer["routes"] == ["10.2.0.0/16"]
    assert peer["online"]
    assert peer["rx_bytes"] > 0
    assert peer["last_handshake"] is not None
    assert [change["path"] for change in peer["history"]][-1] == "direct"
    status = home.status()
    assert status["data_plane"] == "userspace"
    assert status["home_relay"] is not None
    assert status["endpoints"] == ["203.0.113.11:41641"]
    assert home.run("ping", "office").returncode == 0
    assert home.run("ping", "nobody").returncode == 1
    assert "easy" in home.run("netcheck").stdout or "unknown" in home.run("netcheck").stdout


def test_the_stream_goes_on_when_the_agent_is_killed_and_a_new_one_adopts_its_peers(world: Mesh) -> None:
    home, office = world.joined("home", "office")
    address = office.address()
    with accepting_tcp(world.network, "office", PORT):
        assert eventually(lambda: source_seen(world, "home", address) is not None)
        with connected(world.network, "home", ip_address(address), PORT) as sock:
            sock.makefile().readline()
            pid = home.wireguard_pid()
            assert home.process is not None
            home.process.kill()
            assert echoes(sock)
            home.start()
            assert eventually(home.ready, within=30.0)
            assert echoes(sock)
            assert home.wireguard_pid() == pid


def test_a_stopped_agent_leaves_traffic_flowing(world: Mesh) -> None:
    home, office = world.joined("home", "office")
    address = office.address()
    with accepting_tcp(world.network, "office", PORT):
        assert eventually(lambda: source_seen(world, "home", address) is not None)
        assert home.process is not None
        home.process.stop()
        assert home.process.exit_code == 0
        assert source_seen(world, "home", address) is not None


def test_a_killed_wireguard_program_is_replaced_and_traffic_returns(world: Mesh) -> None:
    home, office = world.joined("home", "office")
    address = office.address()
    with accepting_tcp(world.network, "office", PORT):
        assert eventually(lambda: source_seen(world, "home", address) is not None)
        os.kill(home.wireguard_pid(), signal.SIGKILL)
        assert eventually(lambda: source_seen(world, "home", address) is not None, within=30.0)


def test_a_wireguard_program_of_another_container_is_waited_for_and_followed(world: Mesh) -> None:
    (office,) = world.joined("office")
    home = world.host("home", userspace={"program": "none", "external": True})
    home.start()
    assert eventually(lambda: bool(home.status()))
    assert not home.status()["control"]["connected"]
    address = office.address()
    for _ in range(2):
        with program_of_its_own(world, home), accepting_tcp(world.network, "office", PORT):
            assert eventually(lambda: source_seen(world, "home", address) is not None, within=30.0)


@contextmanager
def program_of_its_own(world: Mesh, host: AgentHost) -> Iterator[None]:
    process = Process(
        "wireguard",
        [world.wireguard, "-f", host.interface],
        log=world.folder / "wireguard.log",
        namespace=host.namespace,
    )
    try:
        yield
    finally:
        process.kill()


def test_the_mesh_works_while_the_control_server_is_gone(world: Mesh) -> None:
    home, office = world.joined("home", "office")
    address = office.address()
    with accepting_tcp(world.network, "office", PORT):
        assert eventually(lambda: source_seen(world, "home", address) is not None)
        cache = world.folder / "home" / "netmap.json"
        assert eventually(lambda: cache.exists() and "203.0.113.12:41641" in cache.read_text())
        assert world.control is not None
        world.control.kill()
        assert home.process is not None
        home.process.kill()
        home.run("cleanup")
        home.start()
        assert eventually(lambda: source_seen(world, "home", address) is not None, within=30.0)
        status = home.status()
        assert not status["control"]["connected"]
        assert "cannot reach" in status["control"]["last_error"]
        world.start_control()
        assert eventually(home.ready, within=60.0)


def test_a_host_is_left_as_it_was_found(world: Mesh) -> None:
    (office,) = world.joined("office")
    address = office.address()
    home = world.host("home", advertise_routes=["10.1.0.0/16", "192.168.9.0/24"])
    before = home.traces()
    with accepting_tcp(world.network, "office", PORT):
        for end in (take_down, stop_and_clean_up, kill_and_clean_up, clean_up_while_running):
            home.start()
            assert eventually(home.ready, within=30.0), home.log.read_text()
            assert eventually(partial(is_seen_from_mesh, world, home, address))
            assert home.traces() != before
            end(home)
            assert home.traces() == before
    again = home.run("cleanup")
    assert (again.returncode, again.stderr) == (0, "")


def test_a_host_that_leaves_for_good_is_forgotten_by_the_others(world: Mesh) -> None:
    home, office = world.joined("home", "office")
    assert home.peer("office")
    left = office.run("cleanup", "--purge")
    assert (left.returncode, left.stderr) == (0, "")
    assert eventually(lambda: [peer["name"] for peer in home.status()["peers"]] == [])
    office.start()
    assert eventually(office.ready, within=30.0), office.log.read_text()
    assert office.status()["node"]["name"] == "office"


def test_a_host_logs_out_only_when_the_control_server_knows_it(world: Mesh) -> None:
    home, office = world.joined("home", "office")
    assert home.peer("office")
    assert world.control is not None
    world.control.pause()
    refused = office.run("logout")
    assert refused.returncode == 1
    assert "still a member" in refused.stderr
    world.control.resume()
    done = office.run("logout")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (world.folder / "office").exists()
    assert eventually(lambda: [peer["name"] for peer in home.status()["peers"]] == [])
    assert office.run("logout").returncode == 2


def test_a_bug_report_has_the_host_and_no_secret(world: Mesh) -> None:
    (home,) = world.joined("home")
    answer = home.run("bugreport")
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["status"]["node"]["name"] == "home"
    assert report["ours"]["link_up"]
    assert "inet warren" in report["host"]["nft list ruleset"]
    secrets = [world.folder / "join", *(world.folder / "home").glob("*.json")]
    words = {
        word for path in secrets for word in re.findall(r"privkey:[0-9a-f]+|join-key[-\w]+", path.read_text())
    }
    assert len(words) >= 3
    assert not [word for word in words if word.removeprefix("privkey:") in answer.stdout]
    assert home.run("down").returncode == 0
    stopped = json.loads(home.run("bugreport").stdout)
    assert "error" in stopped["status"]


def take_down(host: AgentHost) -> None:
    assert host.run("down").returncode == 0


def stop_and_clean_up(host: AgentHost) -> None:
    assert host.process is not None
    host.process.stop()
    assert host.run("cleanup").returncode == 0


def kill_and_clean_up(host: AgentHost) -> None:
    assert host.process is not None
    host.process.kill()
    assert host.run("cleanup").returncode == 0


def clean_up_while_running(host: AgentHost) -> None:
    assert host.run("cleanup").returncode == 0


def test_a_wrong_join_key_is_reported_and_retried_until_it_is_right(world: Mesh) -> None:
    (world.folder / "wrong").write_text("not-a-key")
    home = world.host("home", auth_key_file=str(world.folder / "wrong"))
    home.start()
    assert eventually(lambda: bool(home.status().get("control", {}).get("last_error")))
    assert "key" in home.status()["control"]["last_error"]
    assert "refused to register" in home.log.read_text()
    assert "not-a-key" not in home.log.read_text()
    (world.folder / "wrong").write_text((world.folder / "join").read_text())
    assert eventually(home.ready, within=60.0)


def refused(host: AgentHost) -> str:
    """The one line of an agent that does not start."""
    before = host.traces()
    answer = host.run("up", "--log-level", "error")
    assert answer.returncode == 2, answer.stderr
    assert host.traces() == before
    (line,) = answer.stderr.splitlines()
    return line


def command(world: Mesh, host: str, *words: str) -> None:
    subprocess.run(entering(words, world.network.namespace(host)), check=True, capture_output=True)


def test_a_host_that_cannot_work_is_told_why_and_left_alone(world: Mesh) -> None:
    home = world.host("home")
    assert "is not installed" in refused(world.host("home", userspace={"program": "no-such-wireguard"}))
    command(world, "home", "ip", "link", "add", home.interface, "type", "bridge")
    assert "ip link del" in refused(world.host("home"))
    command(world, "home", "ip", "link", "del", home.interface)
    command(world, "home", "ip", "addr", "add", "100.64.0.200/10", "dev", "eth0")
    assert "attached to 100.64.0.0/10 already" in refused(world.host("home"))
    command(world, "home", "ip", "addr", "del", "100.64.0.200/10", "dev", "eth0")
    with open_udp(world.network, "home", 41641):
        assert "set listen_port to another" in refused(world.host("home"))


@contextmanager
def pod(world: Mesh, host: str, address: str) -> Iterator[str]:
    """A pod behind a host that masquerades it, as network plugins do. Gives its namespace's short name."""
    name, namespace = f"{host}-pod", world.network.namespace(f"{host}-pod")
    gateway = address.rsplit(".", 1)[0] + ".1"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        pair = ["ip", "link", "add", "cni0", "type", "veth", "peer", "name", "eth0", "netns", namespace]
        command(world, host, *pair)
        command(world, host, "ip", "addr", "add", f"{gateway}/24", "dev", "cni0")
        command(world, host, "ip", "link", "set", "cni0", "up")
        command(world, host, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        rules = (
            "table ip cni { chain post { type nat hook postrouting priority 100; "
            f'ip saddr {gateway}/24 oifname != "cni0" masquerade; }}; }}'
        )
        command(world, host, "nft", rules)
        command(world, name, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
        command(world, name, "ip", "link", "set", "eth0", "up")
        command(world, name, "ip", "route", "add", "default", "via", gateway)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)


def test_a_pod_reaches_a_pod_of_the_other_cluster_and_keeps_its_address(world: Mesh) -> None:
    with pod(world, "home", "10.1.0.5") as here, pod(world, "office", "10.2.0.5") as there:
        home, _ = world.joined("home", "office")
        assert eventually(lambda: home.peer("office").get("routes") == ["10.2.0.0/16"])
        with accepting_tcp(world.network, there, PORT):
            assert eventually(lambda: source_seen(world, here, "10.2.0.5") == "10.1.0.5")
        # To the rest of the world the plugin's masquerade is as it was.
        with accepting_tcp(world.network, "control", PORT):
            assert source_seen(world, here, "203.0.113.10") == "203.0.113.11"
