"""What HTTP proxies write about their callers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire.forwarded import forwarded, x_forwarded_for

FORWARDED_FOR = {
    "": [],
    "203.0.113.7": ["203.0.113.7"],
    "203.0.113.7, 2001:db8::7 ,192.0.2.1": ["203.0.113.7", "2001:db8::7", "192.0.2.1"],
    "203.0.113.7:8080, [2001:db8::7]:8080, [2001:db8::7]": ["203.0.113.7", "2001:db8::7", "2001:db8::7"],
    "::ffff:203.0.113.7": ["203.0.113.7"],
    "unknown, 203.0.113.7": [None, "203.0.113.7"],
    "203.0.113.7,": ["203.0.113.7", None],
    "203.0.113.7:x, [203.0.113.7], [2001:db8::7, [2001:db8::7]x, fe80::1%eth0": [None] * 5,
}

FORWARDED = {
    "": [],
    "for=203.0.113.7": ["203.0.113.7"],
    'For="[2001:db8::7]:4711"': ["2001:db8::7"],
    "for=203.0.113.7;proto=https;by=192.0.2.1": ["203.0.113.7"],
    'proto=https;for="203.0.113.7:80", for=192.0.2.1': ["203.0.113.7", "192.0.2.1"],
    'for="2001:db8::7"': ["2001:db8::7"],
    "for=unknown, for=_hidden, for=192.0.2.1": [None, None, "192.0.2.1"],
    "proto=https, for=192.0.2.1": [None, "192.0.2.1"],
    # A comma or quote inside quotes ends nothing.
    'host="a,for=198.51.100.1";for=203.0.113.7': ["203.0.113.7"],
    'host="a\\",for=198.51.100.1";for=203.0.113.7': ["203.0.113.7"],
    'for="203.0.113.\\7"': ["203.0.113.7"],
    'for="203.0.113.7': [None],
    "for=203.0.113.7 for=192.0.2.1": [None],
    "for": [None],
    "for=203.0.113.7; ; for=1": [None],
}


def texts(hops: list[object]) -> list[str | None]:
    return [str(hop) if hop is not None else None for hop in hops]


@pytest.mark.parametrize("value", FORWARDED_FOR)
def test_x_forwarded_for(value: str) -> None:
    assert texts([*x_forwarded_for(value)]) == FORWARDED_FOR[value]


@pytest.mark.parametrize("value", FORWARDED)
def test_forwarded(value: str) -> None:
    assert texts([*forwarded(value)]) == FORWARDED[value]


@given(st.text(alphabet='for=;,"\\ [].:0123456789abcdef\t', max_size=60))
def test_any_text_is_read_without_a_fault(value: str) -> None:
    x_forwarded_for(value)
    forwarded(value)
