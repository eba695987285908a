"""Ports, protocols, durations and posture conditions as rules write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_control.policy.durations import format_duration, parse_duration
from warren_control.policy.ports import PortError, parse_ports, parse_protocol
from warren_control.policy.postures import parse_assertion


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("*", ["*"]),
        ("22", ["22"]),
        ("80,443", ["80", "443"]),
        ("8000-8100", ["8000-8100"]),
        ("1-65535, 22", ["1-65535", "22"]),
    ],
)
def test_ports_are_read(text: str, shown: list[str]) -> None:
    assert [str(one) for one in parse_ports(text)] == shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh", 'port range "ssh": invalid first integer'),
        ("-1", 'port range "-1": invalid first integer'),
        ("", 'port range "": invalid first integer'),
        ("80-x", 'port range "80-x": invalid last integer'),
        ("80-", "invalid last integer"),
        ("0", "first port must be >0, or use '*' for wildcard"),
        ("65536", "at most 65535"),
        ("9" * 99, "invalid first integer"),
        ("90-80", "the first port is above the last"),
        ("80,ssh", 'port range "ssh": invalid first integer'),
        (",".join(["1"] * 1001), "more than 1000"),
    ],
)
def test_ports_that_are_none_are_refused(text: str, words: str) -> None:
    with pytest.raises(PortError) as caught:
        parse_ports(text)
    assert words in caught.value.text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("tcp", 6),
        ("TCP", 6),
        ("icmp", 1),
        ("ipv6-icmp", 58),
        ("ip-in-ip", 4),
        ("ipv4", 4),
        ("17", 17),
        ("255", 255),
    ],
)
def test_protocols_are_read_by_name_or_number(text: str, number: int) -> None:
    assert parse_protocol(text) == number


@pytest.mark.parametrize("text", ["*", "0", "06", "256", "tcpx", "", "-1", "6.0"])
def test_protocols_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(PortError):
        parse_protocol(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1m", "1m0s"),
        ("-1m", "-1m0s"),
        ("168h", "168h0m0s"),
        ("168h1s", "168h0m1s"),
        ("200h", "200h0m0s"),
        ("90s", "1m30s"),
        ("1.5s", "1.5s"),
        ("10ms", "10ms"),
        ("1us", "1µs"),
        ("7ns", "7ns"),
        ("0", "0s"),
        ("1h30m", "1h30m0s"),
        (".5h", "30m0s"),
    ],
)
def test_durations_are_read_and_written_as_go_does(text: str, shown: str) -> None:
    assert format_duration(parse_duration(text)) == shown


@pytest.mark.parametrize("text", ["", "12", "h", "1d", "1h 2m", "--1h", "1h-2m", "9" * 30 + "h", "9999999h"])
def test_durations_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@given(st.integers(-(2**62), 2**62))
def test_a_duration_written_and_read_is_the_same(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


DEVICE: dict[str, Any] = {
    "node:os": "linux",
    "node:tsVersion": "1.70.2",
    "node:tsAutoUpdate": True,
    "custom:level": 7,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("node:os == 'linux'", True),
        ('node:os != "linux"', False),
        ("node:os IN ['macos', 'linux']", True),
        ("node:os NOT IN ['macos', 'windows']", True),
        ("node:os NOT  IN ['linux',]", False),
        ("node:tsVersion >= '1.9'", True),
        ("node:tsVersion < '1.70.10'", True),
        ("node:tsVersion > '1.70.2'", False),
        ("node:tsVersion <= '1.70.2'", True),
        ("node:tsAutoUpdate == true", True),
        ("node:tsAutoUpdate == 'true'", True),
        ("custom:level >= 7", True),
        ("custom:level == 8", False),
        ("custom:tier IS SET", False),
        ("custom:tier NOT SET", True),
        ("custom:level IS SET", True),
        ("custom:tier != 'x'", False),
        ("custom:tier NOT IN ['x']", False),
    ],
)
def test_conditions_hold_or_not_and_what_is_unknown_meets_none(text: str, holds: bool) -> None:
    assert parse_assertion(text).holds(DEVICE) is holds


@pytest.mark.parametrize(
    "text",
    ["", "node:os", "os == 'linux'", "node:os = 'linux'", "node:os == linux", "node:os IN []", "x" * 5000],
)
def test_conditions_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_assertion(text)
