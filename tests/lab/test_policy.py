"""A policy on real traffic: stock clients and our agent, each on a host of its own.

laptop, guest (stock) --+
                        +-- internet -- control, relay
web (stock), nas (ours)-+
"""

from __future__ import annotations

import functools
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from typing import Any, Final

import pytest

from support.lab import eventually, require_namespaces
from support.requirements import require_nftables, require_program, require_tun
from warren_lab import tools
from warren_lab.errors import ProcessError
from warren_lab.hosts.sockets import accepts_tcp
from warren_lab.net import PublicHost, Topology, namespaces
from warren_lab.scenario.nodes import Side, StockNode
from warren_lab.scenario.overlay import Overlay

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

HOSTS: Final = ("laptop", "guest", "web", "nas")
SIDES: Final = dict.fromkeys(HOSTS, Side.STOCK) | {"nas": Side.OURS}
WITHIN_SECONDS: Final = 2.0


class Mesh:
    """The nodes, and what an administrator does."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.control = overlay.control

    def reaches(self, source: str, destination: str, port: int, patience: float = 0.5) -> bool:
        """Whether a new TCP connection comes about."""
        return accepts_tcp(
            self.overlay.network.namespace(source), self.overlay.nodes[destination].address, port, patience
        )

    def pings(self, source: str, destination: str) -> bool:
        command = [require_program("busybox"), "ping", "-c1", "-W1", self.overlay.nodes[destination].address]
        answer = self.overlay.run.call(command, namespace=self.overlay.network.namespace(source))
        return answer.returncode == 0

    def put(self, policy: dict[str, Any]) -> tuple[int, Any]:
        return self.control.api("PUT", "/policy", {"text": json.dumps(policy)})

    def in_force(self, policy: dict[str, Any]) -> float:
        """Puts a policy in force; when that was asked for."""
        asked = time.monotonic()
        status, document = self.put(policy)
        assert status == 200, document
        return asked

    def node(self, name: str) -> dict[str, Any]:
        _, document = self.control.api("GET", f"/nodes?name={name}")
        found: dict[str, Any] = document["nodes"][0]
        return found

    def edit(self, name: str, **fields: Any) -> None:
        status, document = self.control.api("PATCH", f"/nodes/{self.node(name)['id']}", fields)
        assert status == 200, document

    def stock(self, name: str) -> StockNode:
        node = self.overlay.nodes[name]
        assert isinstance(node, StockNode)
        return node


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    require_namespaces()
    require_tun()
    require_nftables()
    toolbox = tools.ensure(("wireguard", "peers"))
    hosts = tuple(PublicHost(name, IPv4Address(f"203.0.113.{20 + n}")) for n, name in enumerate(HOSTS))
    with ExitStack() as stack:
        overlay = stack.enter_context(Overlay(Topology(public_hosts=hosts), toolbox))
        overlay.join(SIDES)
        found = Mesh(overlay)
        for name in ("web", "nas"):
            for port in (80, 81):
                stack.enter_context(overlay.network.inside(name, functools.partial(listening, port)))
            found.edit(name, tags=["tag:server"])
            assert eventually(functools.partial(found.reaches, "laptop", name, 80, 2.0), within=20)
        yield found
    assert namespaces.names(f"wl{os.getpid()}-") == []


def listening(port: int) -> socket.socket:
    """Nobody need accept: the kernel opens connections by itself, as many as may wait."""
    return socket.create_server(("", port), backlog=1024)


def grants(*rules: tuple[str, str, str], **sections: Any) -> dict[str, Any]:
    return {
        "tagOwners": {"tag:server": []},
        "grants": [{"src": [src], "dst": [dst], "ip": [ip]} for src, dst, ip in rules],
        **sections,
    }


@pytest.mark.parametrize("server", ["web", "nas"])
def test_a_change_opens_and_closes_a_flow_within_two_seconds(
    mesh: Mesh, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh.in_force(grants(("*", "tag:server", "tcp:81")))
    assert eventually(lambda: not mesh.reaches("laptop", server, 80))
    opened_at = mesh.in_force(grants(("*", "tag:server", "tcp:80-81")))
    assert eventually(lambda: mesh.reaches("laptop", server, 80))
    opened = time.monotonic() - opened_at
    closed_at = mesh.in_force(grants(("*", "tag:server", "tcp:81")))
    # A connection that is refused takes its whole patience: the try that failed began when it was closed.
    attempt = [closed_at]

    def refused() -> bool:
        attempt.append(time.monotonic())
        return not mesh.reaches("laptop", server, 80)

    assert eventually(refused)
    closed = attempt[-1] - closed_at
    assert mesh.reaches("laptop", server, 81, 5.0)
    with capsys.disabled():
        sys.stdout.write(f"\n{server}: opened after {opened * 1000:.0f} ms, closed {closed * 1000:.0f} ms\n")
    assert opened < WITHIN_SECONDS
    assert closed < WITHIN_SECONDS


def test_one_port_alone_lets_icmp_through_and_nothing_back(mesh: Mesh) -> None:
    mesh.in_force(grants(("members@", "tag:server", "tcp:80")))
    assert eventually(lambda: mesh.reaches("laptop", "web", 80) and not mesh.reaches("laptop", "web", 81))
    with mesh.overlay.network.inside("laptop", functools.partial(listening, 80)):
        assert not mesh.reaches("web", "laptop", 80)
    laptop, web = mesh.stock("laptop"), mesh.stock("web")
    assert laptop.daemon.peer(web.address)["DNSName"] == "web.mesh.internal."
    assert web.daemon.peer(laptop.address)["DNSName"] == "laptop.mesh.internal."
    # Clients let in ICMP from whoever may reach anything of theirs.
    assert mesh.pings("laptop", "web")
    assert not mesh.pings("web", "laptop")


def test_an_attribute_shows_at_the_node_it_is_for_alone(mesh: Mesh) -> None:
    attributes = [{"target": ["tag:server"], "attr": ["custom:attribute"]}]
    mesh.in_force(grants(("*", "*", "*"), nodeAttrs=attributes, randomizeClientPort=True))

    def held(name: str) -> set[str]:
        return set(mesh.stock(name).daemon.status()["Self"].get("CapMap") or {})

    assert eventually(lambda: {"custom:attribute", "randomize-client-port"} <= held("web"))
    assert "custom:attribute" not in held("laptop")


def test_a_change_that_breaks_a_test_in_the_policy_is_refused_and_traffic_goes_on(mesh: Mesh) -> None:
    tests = [{"src": "members@", "accept": ["tag:server:80"]}]
    mesh.in_force(grants(("*", "tag:server", "tcp:80"), tests=tests))
    status, problem = mesh.put(grants(("*", "tag:server", "tcp:81"), tests=tests))
    assert status == 422
    assert [test["path"] for test in problem["tests"] if not test["passed"]] == ["tests[0].accept[0]"]
    assert eventually(lambda: mesh.reaches("laptop", "web", 80))
    assert not mesh.reaches("laptop", "web", 81)


def test_a_user_who_leaves_takes_nobody_else_along(mesh: Mesh) -> None:
    # In the policy by name, and gone without a change of it.
    status, _ = mesh.control.api("POST", "/users", {"name": "leaver", "email": "leaver@example.net"})
    assert status == 201
    mesh.in_force(
        grants(
            ("leaver@example.net", "tag:server", "tcp:81"),
            ("members@", "tag:server", "tcp:80"),
            groups={"group:team": ["leaver@example.net", "members@"]},
        )
    )
    assert eventually(lambda: mesh.reaches("laptop", "web", 80))
    assert mesh.control.api("DELETE", "/users/leaver")[0] == 204
    assert mesh.reaches("laptop", "web", 80, 5.0)
    assert mesh.reaches("laptop", "nas", 80, 5.0)
    # Also after a restart, when the policy is read anew.
    mesh.control.restart()
    assert eventually(lambda: all(mesh.node(name)["online"] for name in HOSTS), within=30)
    assert mesh.reaches("laptop", "web", 80, 5.0)
    assert not mesh.reaches("laptop", "web", 81)


def test_an_announced_route_is_approved_by_its_approver(mesh: Mesh) -> None:
    approvers = {"routes": {"10.77.0.0/16": ["tag:server"]}}
    mesh.in_force(grants(("*", "*", "*"), autoApprovers=approvers))
    answer = mesh.stock("web").daemon.call(["set", "--advertise-routes=10.77.1.0/24,10.78.0.0/24"])
    assert answer.returncode == 0, answer.stderr
    assert eventually(lambda: mesh.node("web")["approved_routes"] == ["10.77.1.0/24"])
    laptop = mesh.stock("laptop")
    address = mesh.overlay.nodes["web"].address
    assert eventually(lambda: "10.77.1.0/24" in (laptop.daemon.peer(address).get("AllowedIPs") or ()))


def test_a_tag_is_refused_to_whoever_does_not_own_it(mesh: Mesh) -> None:
    mesh.in_force(grants(("*", "*", "*")))
    guest = mesh.stock("guest").daemon
    guest.logout()
    with pytest.raises(ProcessError, match="tagOwners"):
        guest.up(
            mesh.control.url, mesh.control.join_key, flags=["--advertise-tags=tag:server"], timeout_seconds=10
        )
    assert mesh.node("guest")["tags"] == []
    mesh.in_force(grants(("*", "*", "*"), tagOwners={"tag:server": ["autogroup:member"]}))
    guest.up(mesh.control.url, mesh.control.join_key, flags=["--advertise-tags=tag:server"])
    assert mesh.node("guest")["tags"] == ["tag:server"]
