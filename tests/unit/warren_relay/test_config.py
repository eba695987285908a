"""Settings of the relay."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from warren_relay.admission import AllowedKeys
from warren_relay.config import Admission, AdmissionMode, Config, Tls, WhenUnreachable, load, parse
from warren_runtime.derp_connection import RateLimit
from warren_runtime.settings import Listen, SettingsError
from warren_wire.keys import NodePublic

EVERYTHING = """
listen: 0.0.0.0:8443
tls: {certificate: /tls/tls.crt, key: /tls/tls.key}
derp_key_file: /state/derp.key
stun_listen: off
health_listen: 127.0.0.1:9000
admission: {mode: members, verify_url: https://control.example.net/verify, ca_file: /tls/ca.crt}
log: {level: debug, json: true}
"""


def test_a_file_with_everything(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(EVERYTHING)
    assert load(file, {}, {}) == Config(
        listen=Listen("0.0.0.0", 8443),
        tls=Tls(Path("/tls/tls.crt"), Path("/tls/tls.key")),
        derp_key_file=Path("/state/derp.key"),
        stun_listen=None,
        health_listen=Listen("127.0.0.1", 9000),
        admission=Admission(AdmissionMode.MEMBERS, "https://control.example.net/verify", Path("/tls/ca.crt")),
        log_level="debug",
        log_json=True,
    )


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(EVERYTHING)
    environ = {
        "WARREN_RELAY_LISTEN": ":1",
        "WARREN_RELAY_TLS_KEY": "/env.key",
        "WARREN_RELAY_STUN_LISTEN": ":2",
    }
    config = load(file, {"listen": ":3"}, environ)
    assert config.listen == Listen("", 3)
    assert config.tls == Tls(Path("/tls/tls.crt"), Path("/env.key"))
    assert config.stun_listen == Listen("", 2)


def test_members_only_is_the_default_and_needs_to_know_whom_to_ask() -> None:
    with pytest.raises(SettingsError, match=r"admission\.verify_url"):
        load(None, {}, {})
    with pytest.raises(SettingsError, match=r"admission\.verify_url"):
        load(None, {"admission.verify_url": "control:443"}, {})
    config = load(None, {"admission.mode": "open"}, {})
    assert config.listen == Listen("0.0.0.0", 443)
    assert config.stun_listen == Listen("0.0.0.0", 3478)


def test_everything_wrong_is_named_at_once() -> None:
    flags = {
        "listen": "x",
        "tls.key": "/k",
        "stun_listen": "y",
        "admission.mode": "some",
        "log.level": "loud",
    }
    with pytest.raises(SettingsError) as caught:
        load(None, flags, {})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "listen",
        "tls.certificate",
        "stun_listen",
        "admission.mode",
        "admission.verify_url",
        "log.level",
    ]


def test_allowed_keys_are_remembered_for_a_while_and_not_without_end() -> None:
    first, second, third = (NodePublic(bytes((number,)) * 32) for number in (1, 2, 3))
    allowed = AllowedKeys(limit=2)
    allowed.remember(first, 0.0)
    assert allowed.allowed_within(first, 60, 60.0)
    assert not allowed.allowed_within(first, 60, 60.1)
    assert not allowed.allowed_within(second, 60, 0.0)
    allowed.remember(second, 1.0)
    allowed.remember(first, 2.0)
    allowed.remember(third, 3.0)
    assert not allowed.allowed_within(second, 60, 3.0)
    allowed.forget(first)
    assert not allowed.allowed_within(first, 60, 3.0)


def test_a_relay_of_a_region_with_workers_limits_and_a_list() -> None:
    config = parse(
        {
            "admission": {"mode": "list", "keys_file": "/etc/relay/keys", "when_unreachable": "refuse"},
            "mesh": {
                "key_file": "/etc/relay/mesh",
                "peers": ["relay.example.net", "203.0.113.5:8443", "[2001:db8::5]:444", "[2001:db8::6]"],
            },
            "limit": {"bytes_per_second": 1_000_000},
            "tls": {"self_signed": "203.0.113.5, relay.example.net"},
            "workers": 4,
            "drain_seconds": 10,
        }
    )
    assert config.mesh is not None
    assert config.mesh.peers == (
        ("relay.example.net", 443),
        ("203.0.113.5", 8443),
        ("2001:db8::5", 444),
        ("2001:db8::6", 443),
    )
    assert config.limit == RateLimit(1_000_000, 1_000_000)
    assert config.tls == Tls(None, None, ("203.0.113.5", "relay.example.net"))
    assert (config.workers, config.drain_seconds) == (4, 10.0)
    assert config.admission.when_unreachable is WhenUnreachable.REFUSE


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"mesh": {"key_file": "k", "peers": ["relay:0"]}}, "mesh.peers: must be HOST or HOST:PORT"),
        ({"mesh": {"peers": []}}, "mesh.key_file: is required"),
        ({"mesh": {"key_file": "k", "discover": "relays:x"}}, "mesh.discover: must be HOST or HOST:PORT"),
        (
            {"mesh": {"key_file": "k", "discover": "relays"}, "tls": {"self_signed": "relay"}},
            "mesh.certificate_name: is required",
        ),
        ({"limit": {"bytes_per_second": 20_000, "burst_bytes": 100}}, "limit.burst_bytes"),
        ({"workers": 65}, "workers"),
        ({"tls": {"self_signed": [1]}}, "tls.self_signed: must be a list of texts"),
        ({"drain_seconds": -1}, "drain_seconds"),
        ({"admission": {"mode": "open", "when_unreachable": "maybe"}}, "admission.when_unreachable"),
    ],
)
def test_each_wrong_value_is_named(data: dict[str, object], problem: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(problem)):
        parse({"admission": {"mode": "open"}, **data})
