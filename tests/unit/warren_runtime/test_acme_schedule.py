"""When certificates are ordered, and the settings that say which."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_runtime.acme.schedule import AT_ONCE, Attempts, Held, due, failed, renew_at
from warren_runtime.acme.settings import read_acme
from warren_runtime.settings import Problems, Section, SettingsError

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
LIFE = timedelta(days=90)
NAME = "relay.example.net"


def held(*names: str, serial: int = 0, is_placeholder: bool = False) -> Held:
    return Held(frozenset(names or (NAME,)), BEGIN, BEGIN + LIFE, serial, is_placeholder)


def test_a_certificate_is_renewed_at_two_thirds_of_its_life_and_not_all_at_one_time() -> None:
    assert renew_at(held(), [NAME]) == BEGIN + timedelta(days=60)
    times = {renew_at(held(serial=serial), [NAME]) for serial in range(2000)}
    assert len(times) == 1000
    assert max(times) < BEGIN + timedelta(days=65)


def test_what_is_not_wanted_is_replaced_at_once() -> None:
    assert renew_at(held(is_placeholder=True), [NAME]) == AT_ONCE
    assert renew_at(held(NAME), [NAME, "other.example.net"]) == AT_ONCE
    assert renew_at(held(NAME, "other.example.net"), [NAME]) > AT_ONCE


def test_the_wait_doubles_up_to_half_a_day() -> None:
    attempts, waits = Attempts(), []
    for _ in range(10):
        attempts = failed(attempts, BEGIN, "one", limited=False, random=0.0)
        waits.append((attempts.not_before - BEGIN) / timedelta(minutes=1))
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 720, 720]


def test_too_many_orders_wait_an_hour_at_least() -> None:
    attempts = failed(Attempts(), BEGIN, "one", limited=True, random=1.0)
    assert attempts.not_before == BEGIN + timedelta(hours=1)


def test_other_settings_are_tried_at_once_and_begin_anew() -> None:
    attempts = Attempts(7, BEGIN + timedelta(hours=9), "one")
    placeholder = held(is_placeholder=True)
    assert due(placeholder, [NAME], attempts, "one") == attempts.not_before
    assert due(placeholder, [NAME], attempts, "two") == AT_ONCE
    assert failed(attempts, BEGIN, "two", limited=False, random=0.0).failures == 1


@given(st.integers(0, 10**6), st.floats(0, 1), st.booleans())
def test_no_failure_is_followed_at_once_or_never(failures: int, random: float, limited: bool) -> None:
    before = Attempts(failures, BEGIN, "one")
    wait = failed(before, BEGIN, "one", limited=limited, random=random).not_before - BEGIN
    assert timedelta(minutes=4.5) <= wait <= timedelta(hours=12)


GOOD = {"names": [NAME], "accept_terms": True}


def read(**values: Any) -> None:
    problems = Problems()
    read_acme(Section(GOOD | values, "tls.acme", problems))
    problems.raise_if_any()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"names": []}, "names: is required"),
        ({"names": ["*.example.net"]}, "names: '*.example.net' is not a full DNS name"),
        ({"names": ["localhost"]}, "names: 'localhost' is not a full DNS name"),
        ({"names": ["../../etc.example"]}, "names: '../../etc.example' is not a full DNS name"),
        ({"names": [f"a{number}.example.net" for number in range(101)]}, "names: must be at most 100"),
        ({"accept_terms": False}, "accept_terms: must be true"),
        ({"directory_url": "http://ca.example.net"}, "directory_url: must be an https:// URL"),
        ({"contacts": ["mailto:operator@example.net"]}, "contacts: "),
        ({"external_account": {"key_id": "one"}}, "external_account.key_file: is required"),
        ({"wildcard": True}, "wildcard: unknown setting"),
    ],
)
def test_settings_that_cannot_work_are_named(values: dict[str, Any], problem: str) -> None:
    read()
    with pytest.raises(SettingsError) as caught:
        read(**values)
    assert any(text.startswith(f"tls.acme.{problem}") for text in caught.value.problems), (
        caught.value.problems
    )
