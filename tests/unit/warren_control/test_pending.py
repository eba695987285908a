"""Machines at the door are bounded, forgotten in time, and cannot push others out."""

from __future__ import annotations

from datetime import datetime

from support.control_records import NOW, machine_key, node_key
from warren_control import pending as pendings
from warren_control.limits import BURST, MAX_SOURCES, REFILL_SECONDS, FailureLimit
from warren_control.pending import LIFETIME, PendingLogins
from warren_wire.control.messages import RegisterRequest
from warren_wire.keys import MachinePublic


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def _ask(logins: PendingLogins, number: int = 1, source: str = "192.0.2.1") -> pendings.Pending:
    machine = MachinePublic(number.to_bytes(2, "big") + bytes([1]) * 30)
    return logins.ask(machine, RegisterRequest(version=133, node_key=node_key(1)), source)


def test_a_login_expires() -> None:
    clock = Clock()
    logins = PendingLogins(clock)
    first = _ask(logins)
    clock.now += LIFETIME
    assert logins.find(first.id) is None
    assert first.decided.is_set()
    assert _ask(logins).id != first.id


def test_a_new_node_key_of_a_machine_replaces_its_login() -> None:
    logins = PendingLogins(Clock())
    first = logins.ask(machine_key(1), RegisterRequest(version=133, node_key=node_key(1)), "")
    second = logins.ask(machine_key(1), RegisterRequest(version=133, node_key=node_key(2)), "")
    assert logins.find(first.id) is None
    assert list(logins) == [second]


def test_one_address_pushes_out_only_its_own() -> None:
    logins = PendingLogins(Clock())
    other = _ask(logins, 9999, "198.51.100.1")
    for number in range(200):
        _ask(logins, number)
    assert len(logins) == pendings.MAX_PENDING_OF_SOURCE + 1
    assert logins.find(other.id) is other


def test_many_addresses_are_bounded() -> None:
    logins = PendingLogins(Clock())
    for number in range(pendings.MAX_PENDING + 100):
        _ask(logins, number, f"192.0.2.{number % 50}")
    assert len(logins) == pendings.MAX_PENDING


def test_wrong_keys_come_back_one_by_one() -> None:
    limit = FailureLimit()
    for _ in range(BURST):
        assert not limit.exhausted("192.0.2.1", 100.0)
        limit.failed("192.0.2.1", 100.0)
    assert limit.exhausted("192.0.2.1", 100.0)
    assert not limit.exhausted("192.0.2.2", 100.0)
    assert not limit.exhausted("192.0.2.1", 100.0 + REFILL_SECONDS)


def test_the_limit_remembers_a_bounded_number_of_addresses() -> None:
    limit = FailureLimit()
    for number in range(MAX_SOURCES + 10):
        limit.failed(str(number), 0.0)
    assert len(limit._spent) == MAX_SOURCES
