"""The packet filter in a real kernel: what comes in at the interface of the mesh, and what does not.

home (filtered) -- internet -- office
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, ip_network

import pytest

from support.agents import HOME, OFFICE, topology
from support.lab import accepting_tcp, connected, echo_udp, open_udp, require_namespaces, seen_as
from support.requirements import require_nftables, require_program
from warren_agent.host import Ruleset
from warren_agent.inbound import EVERYTHING, Allowance, Ports, Span
from warren_agent.kernel.firewall import Firewall
from warren_agent.ruleset import ruleset
from warren_lab.net import Network
from warren_lab.process import entering

pytestmark = pytest.mark.netns

PORT, OTHER_PORT = 8080, 8081
SERVICE = IPv4Address("10.96.0.1")
ALL = Ports(0, 65535)
TCP, UDP, SCTP = 6, 17, 132


def span(text: str) -> Span:
    return Span.of(ip_network(text))


def allow(source: str, target: str, *ports: Ports, protocols: tuple[int, ...] = (TCP,)) -> Allowance:
    return Allowance(
        (span(source),), tuple((span(target), each) for each in ports or (ALL,)), frozenset(protocols)
    )


def filtered(*allowances: Allowance) -> Ruleset:
    """The table of a home whose mesh interface is eth0, in this test a plain one."""
    local = [ip_network(f"{HOME}/32"), ip_network("10.96.0.0/16")]
    return ruleset("eth0", 41641, (), (), allowances, local)


@pytest.fixture
def network() -> Iterator[Network]:
    require_namespaces()
    require_nftables()
    with Network(topology()) as built:
        yield built


def enforce(network: Network, *allowances: Allowance, firewall: Firewall | None = None) -> None:
    network.inside("home", partial((firewall or Firewall()).replace, filtered(*allowances)))


def in_home(network: Network, *words: str) -> str:
    command = entering(words, network.namespace("home"))
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def opens(network: Network, address: IPv4Address, port: int, source: str = "office") -> bool:
    def attempt() -> bool:
        try:
            socket.create_connection((str(address), port), 0.4).close()
        except OSError:
            return False
        return True

    return network.inside(source, attempt)


def pings(network: Network, source: str, address: IPv4Address) -> bool:
    command = entering(
        [require_program("busybox"), "ping", "-c1", "-W1", str(address)], network.namespace(source)
    )
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def serving(network: Network, host: str) -> Iterator[None]:
    with (
        accepting_tcp(network, host, PORT),
        accepting_tcp(network, host, OTHER_PORT),
        echo_udp(network, host, PORT),
    ):
        yield


def answers_udp(network: Network, source: str, address: IPv4Address) -> bool:
    with open_udp(network, source) as sock:
        sock.settimeout(0.4)
        return seen_as(sock, address, PORT, tries=1) is not None


def test_without_a_filter_only_replies_come_in(network: Network) -> None:
    enforce(network)
    with serving(network, "home"), serving(network, "office"):
        assert not opens(network, HOME, PORT)
        assert not answers_udp(network, "office", HOME)
        assert not pings(network, "office", HOME)
        assert opens(network, OFFICE, PORT, source="home")
        assert answers_udp(network, "home", OFFICE)
        assert pings(network, "home", OFFICE)


def test_a_rule_lets_in_its_protocol_and_ports_and_every_ping(network: Network) -> None:
    enforce(network, allow(f"{OFFICE}/32", f"{HOME}/32", Ports(PORT, PORT)))
    with serving(network, "home"):
        assert opens(network, HOME, PORT)
        assert not opens(network, HOME, OTHER_PORT)
        assert not answers_udp(network, "office", HOME)
        assert pings(network, "office", HOME)
        # Another source is another matter.
        assert not opens(network, HOME, PORT, source="control")
        assert not pings(network, "control", HOME)


def test_udp_is_let_in_by_a_rule_that_names_it(network: Network) -> None:
    enforce(network, allow("0.0.0.0/0", f"{HOME}/32", Ports(1, PORT), protocols=(UDP,)))
    with serving(network, "home"):
        assert answers_udp(network, "office", HOME)
        assert not opens(network, HOME, PORT)


def test_a_service_is_judged_by_its_own_address_and_not_by_what_is_behind_it(network: Network) -> None:
    in_home(network, "ip", "addr", "add", "192.168.7.7/32", "dev", "lo")
    rules = (
        "table ip services { chain pre { type nat hook prerouting priority dstnat; "
        f"ip daddr {SERVICE} tcp dport 443 dnat to 192.168.7.7:{PORT}; }}; }}"
    )
    in_home(network, "nft", rules)
    office = network.namespace("office")
    for destination in (f"{SERVICE}/32", "192.168.7.7/32"):
        route = entering(["ip", "route", "add", destination, "via", str(HOME)], office)
        subprocess.run(route, check=True)
    with serving(network, "home"):
        enforce(network, allow("0.0.0.0/0", "10.96.0.0/16", Ports(443, 443)))
        assert opens(network, SERVICE, 443)
        # Nothing but this node's own addresses and ranges can be reached, whatever a rule says.
        enforce(network, allow("0.0.0.0/0", "192.168.7.7/32"))
        assert not opens(network, IPv4Address("192.168.7.7"), PORT)
        assert not opens(network, SERVICE, 443)


def test_an_open_connection_lives_on_when_its_rule_goes(network: Network) -> None:
    firewall = Firewall()
    enforce(network, allow(f"{OFFICE}/32", f"{HOME}/32"), firewall=firewall)
    with serving(network, "home"), connected(network, "office", HOME, PORT) as sock:
        assert sock.makefile().readline()
        enforce(network, firewall=firewall)
        assert not opens(network, HOME, PORT)
        sock.sendall(b"x")
        sock.settimeout(2.0)
        assert sock.recv(1) == b"x"


RICH = (
    Allowance(
        EVERYTHING, ((span(f"{HOME}/32"), ALL), (span("10.96.0.0/16"), ALL)), frozenset((1, 6, 17, 58))
    ),
    Allowance(
        (span("100.64.0.0/24"), Span(4, int(OFFICE), int(OFFICE) + 4), span("fd00::/8")),
        (
            (span(f"{HOME}/32"), Ports(22, 22)),
            (span(f"{HOME}/32"), Ports(80, 90)),
            (span("10.96.0.7/32"), ALL),
        ),
        frozenset((TCP, UDP, SCTP, 200)),
    ),
)


def test_the_rules_are_listed_as_they_were_written(network: Network) -> None:
    enforce(network, *RICH)
    assert network.inside("home", lambda: Firewall().observe()) == filtered(*RICH)


def handles(network: Network, chain: str) -> list[int]:
    listed = json.loads(in_home(network, "nft", "-j", "-a", "list", "chain", "inet", "warren", chain))
    return [entry["rule"]["handle"] for entry in listed["nftables"] if "rule" in entry]


def test_a_changed_filter_touches_no_other_chain(network: Network) -> None:
    firewall = Firewall()
    enforce(network, *RICH, firewall=firewall)
    clamp, filtering = handles(network, "clamp-mss"), handles(network, "from-mesh")
    enforce(network, RICH[0], firewall=firewall)
    assert handles(network, "clamp-mss") == clamp
    assert not set(handles(network, "from-mesh")) & set(filtering)
    assert network.inside("home", firewall.observe) == filtered(RICH[0])
    enforce(network, RICH[0], firewall=firewall)
    assert handles(network, "clamp-mss") == clamp


def test_no_packet_slips_in_while_the_filter_changes(network: Network) -> None:
    """A port that every version of the filter refuses stays shut through many changes."""
    firewall = Firewall()
    enforce(network, firewall=firewall)
    done = threading.Event()
    came_in: list[bool] = []

    def knock() -> None:
        with open_udp(network, "office") as sock:
            sock.settimeout(0.01)
            while not done.is_set():
                came_in.append(seen_as(sock, HOME, PORT, tries=1) is not None)

    with serving(network, "home"):
        thread = threading.Thread(target=knock)
        thread.start()
        try:
            for number in range(40):
                enforce(network, *RICH[1:] if number % 2 else (), firewall=firewall)
        finally:
            done.set()
            thread.join()
    assert came_in
    assert not any(came_in)
