"""The lab's small internet.

home, nas -- home-router --+            +-- office-router -- office
                           +- internet -+
                     web --+            +-- mail
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from support.lab import (
    HOME_WAN,
    MAIL,
    OFFICE_WAN,
    WEB,
    Traces,
    accepting_tcp,
    connected,
    echo_udp,
    eventually,
    home_and_office,
    open_udp,
    pid_is_gone,
    require_namespaces,
    seen_as,
)
from warren_lab.errors import NetworkError
from warren_lab.net import Forward, Network, RouterKind, Transport, namespaces
from warren_lab.run import Run, sweep

pytestmark = pytest.mark.netns

PORT = 41641
HOME_V6 = IPv6Address("2001:db8:1::a")
WEB_V6 = IPv6Address("2001:db8::50")


@pytest.fixture(autouse=True)
def _machine() -> None:
    require_namespaces()


def test_an_easy_router_shows_one_public_port_to_all_and_keeps_the_local_one() -> None:
    with (
        Network(home_and_office(RouterKind.EASY)) as network,
        echo_udp(network, "web", 3478),
        echo_udp(network, "mail", 3478),
        open_udp(network, "home", PORT) as sock,
    ):
        assert seen_as(sock, WEB, 3478) == f"{HOME_WAN}:{PORT}"
        assert seen_as(sock, MAIL, 3478) == f"{HOME_WAN}:{PORT}"


def test_a_hard_router_shows_another_public_port_to_each_destination() -> None:
    with (
        Network(home_and_office(RouterKind.HARD)) as network,
        echo_udp(network, "web", 3478),
        echo_udp(network, "mail", 3478),
        open_udp(network, "home", PORT) as sock,
    ):
        first = seen_as(sock, WEB, 3478)
        second = seen_as(sock, MAIL, 3478)
        assert first is not None
        assert second is not None
        assert first.startswith(f"{HOME_WAN}:")
        assert first != second
        assert seen_as(sock, WEB, 3478) == first


def heard_from(
    sender: socket.socket, to: IPv4Address, receiver: socket.socket, tries: int = 50
) -> tuple[str, int] | None:
    """Where the receiver sees a datagram come from; sent again, since the first may wait behind ARP."""
    receiver.settimeout(0.2)
    for _ in range(tries):
        sender.sendto(b"hello", (str(to), PORT))
        try:
            _, (address, port) = receiver.recvfrom(2048)
        except TimeoutError:
            continue
        return address, port
    return None


def test_hosts_behind_two_easy_routers_reach_each_other_when_both_send_first() -> None:
    with (
        Network(home_and_office()) as network,
        open_udp(network, "home", PORT) as home,
        open_udp(network, "office", PORT) as office,
    ):
        # The first one meets a closed door and must not spoil the mapping behind it.
        office.sendto(b"early", (str(HOME_WAN), PORT))
        assert heard_from(home, OFFICE_WAN, office) == (str(HOME_WAN), PORT)
        assert heard_from(office, HOME_WAN, home) == (str(OFFICE_WAN), PORT)


def test_a_router_that_blocks_udp_lets_tcp_pass() -> None:
    with (
        Network(home_and_office(RouterKind.UDP_BLOCKED)) as network,
        echo_udp(network, "web", 3478),
        accepting_tcp(network, "web", 8080),
        open_udp(network, "home") as sock,
        connected(network, "home", WEB, 8080) as connection,
    ):
        assert seen_as(sock, WEB, 3478, tries=1) is None
        assert connection.recv(100) == f"{HOME_WAN}\n".encode()


def test_a_router_that_allows_only_tcp_443_lets_nothing_else_out() -> None:
    with (
        Network(home_and_office(RouterKind.TCP_443)) as network,
        echo_udp(network, "web", 3478),
        accepting_tcp(network, "web", 443),
        accepting_tcp(network, "web", 8080),
        open_udp(network, "home") as sock,
        connected(network, "home", WEB, 443) as connection,
    ):
        assert connection.recv(100) == f"{HOME_WAN}\n".encode()
        assert seen_as(sock, WEB, 3478, tries=1) is None
        with pytest.raises(TimeoutError), connected(network, "home", WEB, 8080):
            pass


FORWARDS = (
    Forward(Transport.TCP, 443, "home", 30443),
    Forward(Transport.UDP, 3478, "home", 30478),
)


def test_a_forwarded_port_leads_inside_and_shows_the_true_source() -> None:
    with (
        Network(home_and_office(forwards=FORWARDS)) as network,
        accepting_tcp(network, "home", 30443),
        echo_udp(network, "home", 30478),
        connected(network, "office", HOME_WAN, 443) as connection,
        open_udp(network, "web", PORT) as sock,
    ):
        assert connection.recv(100) == f"{OFFICE_WAN}\n".encode()
        assert seen_as(sock, HOME_WAN, 3478) == f"{WEB}:{PORT}"


@pytest.mark.parametrize("inside", ["nas", "home"])
def test_a_host_inside_reaches_a_forwarded_port_and_is_seen_as_the_public_address(inside: str) -> None:
    with (
        Network(home_and_office(forwards=FORWARDS)) as network,
        accepting_tcp(network, "home", 30443),
        echo_udp(network, "home", 30478),
        echo_udp(network, "web", 3478),
        connected(network, inside, HOME_WAN, 443) as connection,
        open_udp(network, inside, PORT) as sock,
    ):
        assert connection.recv(100) == f"{HOME_WAN}\n".encode()
        assert seen_as(sock, HOME_WAN, 3478) == f"{HOME_WAN}:{PORT}"
        assert seen_as(sock, WEB, 3478) == f"{HOME_WAN}:{PORT}"


def test_udp_can_be_cut_and_restored_while_tcp_goes_on() -> None:
    with (
        Network(home_and_office(forwards=FORWARDS)) as network,
        echo_udp(network, "web", 3478),
        echo_udp(network, "home", 30478),
        accepting_tcp(network, "web", 8080),
        open_udp(network, "home", PORT) as sock,
        open_udp(network, "web") as outside,
        connected(network, "home", WEB, 8080) as connection,
    ):
        assert connection.recv(100)
        assert seen_as(sock, WEB, 3478) == f"{HOME_WAN}:{PORT}"
        network.set_udp("home-router", allowed=False)
        assert seen_as(sock, WEB, 3478, tries=1) is None
        assert seen_as(outside, HOME_WAN, 3478, tries=1) is None
        connection.sendall(b"still here")
        assert connection.recv(100) == b"still here"
        network.set_udp("home-router", allowed=True)
        assert seen_as(sock, WEB, 3478) == f"{HOME_WAN}:{PORT}"
        assert seen_as(outside, HOME_WAN, 3478) is not None


def test_ipv6_is_routed_through_a_stateful_firewall() -> None:
    with (
        Network(home_and_office(public_v6=True)) as network,
        accepting_tcp(network, "web", 8080),
        accepting_tcp(network, "home", 8080),
        connected(network, "home", WEB_V6, 8080) as connection,
    ):
        assert connection.recv(100) == b"2001:db8:1::a\n"
        with pytest.raises(TimeoutError), connected(network, "web", HOME_V6, 8080):
            pass


def test_a_destination_nobody_has_is_answered_at_once() -> None:
    with (
        Network(home_and_office()) as network,
        pytest.raises(OSError, match="unreachable"),
        connected(network, "home", type(WEB)("198.51.100.1"), 80),
    ):
        pass


def test_nothing_is_left_after_a_network() -> None:
    before = Traces.of_machine()
    with Network(home_and_office(public_v6=True)):
        assert Traces.of_machine().namespaces != before.namespaces
    assert Traces.of_machine() == before


def test_nothing_is_left_after_a_failure_inside() -> None:
    before = Traces.of_machine()
    with pytest.raises(ZeroDivisionError), Network(home_and_office()) as network:
        raise ZeroDivisionError(network.prefix)
    assert Traces.of_machine() == before


def test_nothing_is_left_when_building_fails_half_way() -> None:
    before = Traces.of_machine()
    prefix = f"wl{os.getpid()}"
    with Network(home_and_office()), pytest.raises(NetworkError, match="exist already"):
        Network(home_and_office(), prefix)._build()
    assert Traces.of_machine() == before


def test_a_process_of_a_run_ends_with_it(tmp_path: Path) -> None:
    with Run(tmp_path) as run, Network(home_and_office(), run.prefix) as network:
        stubborn = run.start(
            "stubborn", ["sh", "-c", "trap '' TERM; sleep 1000 & wait"], namespace=network.namespace("home")
        )
        assert stubborn.running
        assert eventually(lambda: bool(namespaces.processes(network.namespace("home"))))
        stubborn.stop(grace_seconds=0.1)
        assert not stubborn.running
        other = run.start("other", ["sleep", "1000"], namespace=network.namespace("home"))
    assert pid_is_gone(other.pid)
    assert list(tmp_path.iterdir()) == []


LIFE = """
    import sys, time
    from pathlib import Path
    from support.lab import home_and_office
    from warren_lab.net import Network
    from warren_lab.run import Run
    with Run(Path(sys.argv[1])) as run, Network(home_and_office(), run.prefix) as network:
        inside = run.start("inside", ["sleep", "1000"], namespace=network.namespace("home"))
        outside = run.start("outside", ["sleep", "1000"])
        print(inside.pid, outside.pid, flush=True)
        time.sleep(1000)
"""


def start_life(base: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """Another process that builds a network and starts programs; returns it and the programs' ids."""
    tests = Path(__file__).parents[1]
    life = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LIFE), str(base)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    assert life.stdout is not None
    with life.stdout as output:
        pids = [int(word) for word in output.readline().split()]
    return life, pids


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after_a_signal(tmp_path: Path, ending: signal.Signals) -> None:
    before = Traces.of_machine()
    life, pids = start_life(tmp_path)
    life.send_signal(ending)
    life.wait(20)
    assert Traces.of_machine() == before
    assert all(pid_is_gone(pid) for pid in pids)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_removes_what_a_killed_run_left_and_nothing_else(tmp_path: Path) -> None:
    with Network(home_and_office()) as alive:
        before = Traces.of_machine()
        life, pids = start_life(tmp_path)
        life.kill()
        life.wait(20)
        assert Traces.of_machine().namespaces != before.namespaces
        assert sweep(tmp_path) == [str(life.pid)]
        assert Traces.of_machine() == before
        assert eventually(lambda: all(pid_is_gone(pid) for pid in pids))
        assert list(tmp_path.iterdir()) == []
        assert namespaces.path(alive.namespace("home")).exists()
