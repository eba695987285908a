"""Held SSH connections: one decision for all that wait, approvals that run out, everything bounded."""

from __future__ import annotations

from datetime import datetime, timedelta

from support.control_records import NOW
from warren_control import ssh_checks
from warren_control.ssh_checks import LIFETIME, Login, SshChecks

HOUR = timedelta(hours=1)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def test_connections_of_one_login_wait_for_one_decision() -> None:
    checks = SshChecks(Clock())
    login = Login(1, 2, "web")
    first = checks.ask(login)
    assert checks.ask(login) is first
    assert checks.ask(Login(1, 2, "root")) is not first
    assert checks.ask(Login(1, 3, "web")) is not first
    checks.decide(first, approved=True)
    assert first.decided.is_set()
    assert checks.ask(login) is not first


def test_an_approval_lasts_for_the_period_and_for_its_login_alone() -> None:
    clock = Clock()
    checks = SshChecks(clock)
    login = Login(1, 2, "web")
    checks.decide(checks.ask(login), approved=True)
    assert checks.still_approved(login, HOUR)
    assert not checks.still_approved(Login(1, 2, "root"), HOUR)
    assert not checks.still_approved(Login(2, 1, "web"), HOUR)
    assert not checks.still_approved(login, timedelta())
    clock.now += HOUR
    assert not checks.still_approved(login, HOUR)
    assert checks.still_approved(login, 2 * HOUR)


def test_a_denial_ends_an_earlier_approval() -> None:
    checks = SshChecks(Clock())
    login = Login(1, 2, "web")
    checks.decide(checks.ask(login), approved=True)
    checks.decide(checks.ask(login), approved=False)
    assert not checks.still_approved(login, HOUR)


def test_a_check_nobody_decides_is_forgotten() -> None:
    clock = Clock()
    checks = SshChecks(clock)
    check = checks.ask(Login(1, 2, "web"))
    clock.now += LIFETIME
    assert checks.undecided() == []
    assert checks.find(check.id) is None
    assert check.decided.is_set()
    assert check.approved is None


async def test_waiting_ends_after_its_time_or_with_the_decision() -> None:
    checks = SshChecks(Clock())
    check = checks.ask(Login(1, 2, "web"))
    assert not await checks.decided(check, within=0)
    checks.decide(check, approved=True)
    assert await checks.decided(check, within=0)


def test_one_destination_pushes_out_only_its_own_checks() -> None:
    checks = SshChecks(Clock())
    other = checks.ask(Login(1, 9, "web"))
    for number in range(200):
        checks.ask(Login(1, 2, f"user{number}"))
    assert len(checks) == ssh_checks.MAX_CHECKS_OF_DESTINATION + 1
    assert checks.find(other.id) is other


def test_approvals_are_bounded_and_the_oldest_goes() -> None:
    checks = SshChecks(Clock())
    for number in range(ssh_checks.MAX_APPROVALS + 1):
        checks.decide(checks.ask(Login(number, 2, "web")), approved=True)
    assert not checks.still_approved(Login(0, 2, "web"), HOUR)
    assert checks.still_approved(Login(1, 2, "web"), HOUR)
