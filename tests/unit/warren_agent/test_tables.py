"""The tables of `status` and `netcheck`, on a terminal and in a pipe."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from warren_agent import tables


def peer(name: str, path: str, **more: Any) -> dict[str, Any]:
    since = (datetime.now(UTC) - timedelta(hours=2, minutes=5)).isoformat()
    return {
        "name": name,
        "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"],
        "routes": [],
        "online": True,
        "path": path,
        "endpoint": None,
        "relay": None,
        "since": since,
        "latency_ms": None,
        "not_direct": None,
        "rx_bytes": 0,
        "tx_bytes": 0,
        **more,
    }


ANSWER: dict[str, Any] = {
    "node": {"fqdn": "nas.mesh.internal", "addresses": ["100.64.0.3"]},
    "control": {
        "url": "https://203.0.113.10",
        "connected": True,
        "since": None,
        "last_error": None,
        "login_url": None,
    },
    "home_relay": {"code": "home"},
    "data_plane": "kernel",
    "peers": [
        peer("laptop", "direct", endpoint="203.0.113.22:43350", latency_ms=3.94, rx_bytes=1536, tx_bytes=5),
        peer("phone", "relay", relay="home", not_direct="the NAT here is hard"),
        peer("[red]", "relay", relay="home", not_direct="the NAT here is hard", routes=["10.1.0.0/16"]),
        peer("printer", "idle", online=False),
    ],
    "errors": ["relay 900: closed"],
}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    return monkeypatch


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_each_peer_says_its_path_since_when_and_why_not_direct(capsys: pytest.CaptureFixture[str]) -> None:
    tables.status(ANSWER)
    assert shown(capsys) == [
        "Node      nas.mesh.internal  100.64.0.3",
        "Control   https://203.0.113.10  connected",
        "Relay     home",
        "Plane     kernel",
        "",
        "PEER     ADDRESS     PATH                       SINCE  LATENCY  RECEIVED  SENT",
        "laptop   100.64.0.2  direct 203.0.113.22:43350  2 h    3.9 ms   1.5 KiB   5 B",
        "phone    100.64.0.2  relay home                 2 h    -        0 B       0 B",
        "[red]    100.64.0.2  relay home                 2 h    -        0 B       0 B",
        "printer  100.64.0.2  offline                    2 h    -        0 B       0 B",
        "",
        "Routes:",
        "  [red]: 10.1.0.0/16",
        "",
        "Not direct:",
        "  phone, [red]: the NAT here is hard",
        "",
        "! relay 900: closed",
    ]


def test_eighty_columns_hold_a_peer_in_a_line(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.setenv("COLUMNS", "80")
    tables.status(ANSWER)
    lines = shown(capsys)
    assert "PEER     ADDRESS     PATH                       SINCE  LATENCY" in lines
    assert max(map(len, lines)) <= 80


def test_a_login_that_is_waited_for_has_a_line_for_its_link(capsys: pytest.CaptureFixture[str]) -> None:
    link = "https://203.0.113.10/register/abc"
    control = {
        **ANSWER["control"],
        "connected": False,
        "last_error": "a person must log in",
        "login_url": link,
    }
    tables.status({**ANSWER, "control": control, "peers": [], "errors": []})
    assert shown(capsys)[1:3] == [
        "Control   https://203.0.113.10  not connected",
        f"          log in at {link}",
    ]


@pytest.mark.parametrize(
    ("varies", "nat"),
    [
        (None, "unknown: it takes two STUN addresses to tell"),
        (True, "hard: the public port differs by destination"),
        (False, "easy: the public port is the same for all destinations"),
    ],
)
@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ({"external": "203.0.113.9:5000", "by": "pcp"}, "203.0.113.9:5000 by pcp"),
        ({"enabled": False}, "switched off"),
        ({}, "no home router"),
        ({"router": "192.168.1.1"}, "192.168.1.1 offers none"),
        ({"router": "192.168.1.1", "seen": ["upnp"]}, "refused by 192.168.1.1 (upnp)"),
    ],
)
def test_netcheck_shows_what_the_network_allows(
    capsys: pytest.CaptureFixture[str], varies: bool | None, nat: str, mapping: dict[str, Any], text: str
) -> None:
    relay = {"code": "home", "name": "Home", "latency_ms": 0.7, "latency_v4_ms": 0.7, "latency_v6_ms": None}
    tables.netcheck(
        {
            "udp": True,
            "ipv4": "203.0.113.10:41641",
            "ipv6": None,
            "mapping_varies": varies,
            "port_mapping": {
                "external": None,
                "by": None,
                "enabled": True,
                "router": None,
                "seen": [],
                **mapping,
            },
            "home_relay": {"region_id": 900, "code": "home"},
            "relays": [relay],
        }
    )
    assert shown(capsys) == [
        "UDP            yes",
        "IPv4           203.0.113.10:41641",
        "IPv6           no",
        f"NAT            {nat}",
        f"Port mapping   {text}",
        "Nearest relay  home",
        "",
        "RELAY  NAME  LATENCY  IPV4    IPV6",
        "home   Home  0.7 ms   0.7 ms  -",
    ]
