"""`tailscale ssh` between two stock clients: let in, refused, and held until somebody approves.

laptop --+
         +-- internet -- control
office --+
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from typing import Any, Final

import pytest

from support.lab import eventually, require_namespaces
from support.requirements import require_program, require_tun
from warren_lab import tools
from warren_lab.certificates import Authority
from warren_lab.hosts import Tailscaled, WarrenControl
from warren_lab.net import Network, PublicHost, Topology
from warren_lab.process import Process
from warren_lab.run import Run

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

CONTROL, LAPTOP, OFFICE = (IPv4Address(f"203.0.113.{number}") for number in (10, 21, 22))
RELEASE: Final = "newest"


class World:
    """A server, and two machines of one user; the office runs Tailscale SSH."""

    def __init__(self, run: Run, network: Network, stack: ExitStack) -> None:
        self.run = run
        self._network = network
        self._admin_socket = run.path / "admin.sock"
        self.server = WarrenControl(
            run,
            "warren",
            namespace=network.namespace("control"),
            address=CONTROL,
            authority=Authority.create(run.path),
            settings={"admin_socket": str(self._admin_socket)},
        )
        stack.callback(self.server.close)
        toolbox = tools.ensure((RELEASE,))
        self._client = toolbox.path("tailscale", RELEASE)
        self._commands = 0
        self.machines = {}
        for name, flags in (("laptop", ()), ("office", ("--ssh",))):
            self.machines[name] = stack.enter_context(
                Tailscaled(
                    run,
                    toolbox,
                    name,
                    namespace=network.namespace(name),
                    ca_file=self.server.ca_file,
                    release=RELEASE,
                )
            )
            self.machines[name].up(self.server.url, self.server.join_key, flags=flags)
        self.office_address = self.machines["office"].addresses()[0]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("control", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        with connection.sock:
            connection.sock.connect(str(self._admin_socket))
            connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        assert answer.status < 400, text
        return json.loads(text) if text else None

    def warren(self, *arguments: str) -> str:
        server = f"unix:{self._admin_socket}"
        answer = self.run.call([sys.executable, "-m", "warren_cli", "--server", server, *arguments])
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def allow(self, action: str, user: str, **more: str) -> None:
        """Put one SSH rule in force, and wait until the office's client has it."""
        rule = {"action": action, "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": [user]}
        self.api("PUT", "/policy", {"text": json.dumps({"ssh": [rule | more]})})
        wanted = "HoldAndDelegate" if action == "check" else '"accept": true'
        login = '"root": "root"' if user == "root" else '"root": ""'

        def known() -> bool:
            rules = self._rules()
            return wanted.lower() in rules.lower() and login in rules

        assert eventually(known), self._rules()

    def _rules(self) -> str:
        answer = self.machines["office"].call(["debug", "netmap"])
        document = json.loads(answer.stdout) if answer.returncode == 0 else {}
        return json.dumps(document.get("SSHPolicy") or {})

    def ssh(self, command: str) -> Process:
        """`tailscale ssh root@office COMMAND` on the laptop; the log is what the person sees."""
        self._commands += 1
        home = self.run.path / "home"
        home.mkdir(exist_ok=True)
        return self.run.start(
            f"ssh-{self._commands}",
            [
                *("env", f"HOME={home}", f"XDG_CONFIG_HOME={home}"),
                *(str(self._client), f"--socket={self.machines['laptop'].socket}", "ssh"),
                *(f"root@{self.office_address}", command),
            ],
            namespace=self._network.namespace("laptop"),
        )

    def held(self) -> dict[str, Any]:
        """The connection that waits."""
        found: list[dict[str, Any]] = []

        def waits() -> bool:
            found[:] = self.api("GET", "/ssh/checks")["checks"]
            return bool(found)

        assert eventually(waits, within=20)
        return found[0]


def outcome(session: Process) -> tuple[int | None, str]:
    """How it ended and what was seen of it."""
    assert eventually(lambda: session.exit_code is not None, within=30)
    return session.exit_code, session.log.read_text()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    require_namespaces()
    require_tun()
    require_program("ssh")
    topology = Topology(
        routers=(),
        public_hosts=(
            PublicHost("control", CONTROL),
            PublicHost("laptop", LAPTOP),
            PublicHost("office", OFFICE),
        ),
    )
    with ExitStack() as stack:
        run = stack.enter_context(Run())
        network = stack.enter_context(Network(topology))
        yield World(run, network, stack)


def test_an_accept_rule_lets_a_person_in(world: World) -> None:
    world.allow("accept", "root")
    session = world.ssh("echo $((6 * 7)) as $(whoami)")
    code, seen = outcome(session)
    assert (code, "42 as root" in seen) == (0, True), seen


def test_a_login_that_no_rule_names_is_refused(world: World) -> None:
    world.allow("accept", "autogroup:nonroot")
    code, seen = outcome(world.ssh("echo in"))
    assert code != 0
    assert "policy does not permit" in seen


def test_a_check_rule_holds_until_an_administrator_approves(world: World) -> None:
    world.allow("check", "root")
    session = world.ssh("echo $((6 * 7))")
    check = world.held()
    assert (check["source"], check["destination"], check["login"]) == ("laptop", "office", "root")
    assert eventually(lambda: "/ssh/check/" in session.log.read_text())
    link = re.findall(r"https://\S+", session.log.read_text())[0]
    assert link == f"{world.server.url}/ssh/check/{check['id']}"
    assert session.running
    world.warren("ssh", "approve", link)
    code, seen = outcome(session)
    assert (code, "42" in seen) == (0, True), seen
    code, seen = outcome(world.ssh("echo still in"))
    assert (code, "/ssh/check/" in seen) == (0, False), seen


def test_a_connection_that_is_denied_ends(world: World) -> None:
    world.allow("check", "root", checkPeriod="always")
    session = world.ssh("echo in")
    world.warren("ssh", "deny", world.held()["id"])
    code, seen = outcome(session)
    assert code != 0
    assert "denied" in seen
