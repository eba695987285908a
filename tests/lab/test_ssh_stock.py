"""`tailscale ssh` between stock clients of each release: let in, refused, held until somebody approves."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from support.lab import eventually
from support.requirements import require_program
from support.stock_world import StockWorld
from warren_lab.process import Process

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

PATIENCE_SECONDS = 60.0


class Ssh:
    """From the laptop to the office, mostly as root: a user that every machine has."""

    def __init__(self, world: StockWorld) -> None:
        self.world = world
        require_program("ssh")
        self._address = world.office.addresses()[0]
        self._sessions = 0
        self.allow("accept", "root")
        # A client that no policy allows SSH refuses to run it.
        world.office.ok("set", "--ssh")

    def allow(self, action: str, user: str, **more: str) -> None:
        """Puts one rule in force, and waits until the office's client has it."""
        everybody = ["autogroup:member"]
        rule = {"action": action, "src": everybody, "dst": everybody, "users": [user], **more}
        self.world.api("PUT", "/policy", {"text": json.dumps({"ssh": [rule]})})
        wanted = ("holdAndDelegate" if action == "check" else "accept", "root" if user == "root" else "")
        assert eventually(lambda: self._known() == wanted, within=PATIENCE_SECONDS), self._known()

    def _known(self) -> tuple[str, str]:
        """What the office's client does to whom."""
        netmap = json.loads(self.world.office.ok("debug", "netmap"))
        rules = (netmap.get("SSHPolicy") or {}).get("rules") or [{"action": {"none": True}, "sshUsers": {}}]
        action = next(name for name in ("holdAndDelegate", "accept", "none") if rules[0]["action"].get(name))
        return action, rules[0]["sshUsers"].get("root", "")

    def start(self, command: str, user: str = "root") -> Process:
        """`tailscale ssh USER@office COMMAND`; the log is what the person sees."""
        self._sessions += 1
        home = self.world.run.path / "home"
        home.mkdir(exist_ok=True)
        # The client keeps the known host keys in its user's folder, which must stay as it is.
        return self.world.run.start(
            f"ssh-{self._sessions}",
            [
                *("env", f"HOME={home}", f"XDG_CONFIG_HOME={home}"),
                *self.world.laptop.command("ssh", f"{user}@{self._address}", command),
            ],
            namespace=self.world.network.namespace("laptop"),
        )

    def held(self, session: Process) -> dict[str, Any]:
        """The connection that waits, which is that of the session."""
        assert eventually(lambda: bool(self._checks()), within=PATIENCE_SECONDS), session.tail()
        return self._checks()[0]

    def _checks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.world.api("GET", "/ssh/checks")["checks"]
        return found


def outcome(session: Process) -> tuple[int | None, str]:
    """How it ended and what was seen of it."""
    assert eventually(lambda: session.exit_code is not None, within=PATIENCE_SECONDS), session.tail()
    return session.exit_code, session.log.read_text()


@pytest.fixture(scope="module")
def ssh(world: StockWorld) -> Ssh:
    return Ssh(world)


def test_an_accept_rule_lets_a_person_in(ssh: Ssh) -> None:
    ssh.allow("accept", "root")
    code, seen = outcome(ssh.start("echo $((6 * 7)) as $(whoami)"))
    assert (code, "42 as root" in seen) == (0, True), seen


def test_a_login_that_no_rule_names_is_refused(ssh: Ssh) -> None:
    ssh.allow("accept", "autogroup:nonroot")
    code, seen = outcome(ssh.start("echo in"))
    assert code != 0
    assert re.search("policy does not permit|Permission denied", seen), seen


def test_nonroot_lets_every_other_user_in(ssh: Ssh) -> None:
    ssh.allow("accept", "autogroup:nonroot")
    # Debian's base system has this user, whose shell says so and ends: past the policy, on the machine.
    _, seen = outcome(ssh.start("true", user="games"))
    assert "account is currently not available" in seen


def test_a_check_rule_holds_until_an_administrator_approves(ssh: Ssh) -> None:
    ssh.allow("check", "root")
    session = ssh.start("echo $((6 * 7))")
    check = ssh.held(session)
    shown = {name: check[name] for name in ("user", "source", "destination", "login")}
    assert shown == {"user": "alice", "source": "laptop", "destination": "office", "login": "root"}
    assert eventually(lambda: "/ssh/check/" in session.log.read_text(), within=PATIENCE_SECONDS)
    link = re.findall(r"https://\S+", session.log.read_text())[0]
    assert link == f"{ssh.world.server.url}/ssh/check/{check['id']}"
    assert session.running
    ssh.world.warren("ssh", "approve", link)
    code, seen = outcome(session)
    assert (code, "42" in seen) == (0, True), seen
    code, seen = outcome(ssh.start("echo still in"))
    assert (code, "/ssh/check/" in seen) == (0, False), seen


def test_a_connection_that_is_denied_ends(ssh: Ssh) -> None:
    ssh.allow("check", "root", checkPeriod="always")
    session = ssh.start("echo in")
    ssh.world.warren("ssh", "deny", ssh.held(session)["id"])
    code, seen = outcome(session)
    assert (code != 0, "denied" in seen) == (True, True), seen
