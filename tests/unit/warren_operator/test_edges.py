"""Small pure parts: names, settings, agents' logs, the relay's metrics and its entry in the relay map."""

from __future__ import annotations

import json

import pytest

from support.operator_cases import CASES
from warren_operator.agentlog import last_refusal
from warren_operator.config import OperatorConfig
from warren_operator.desired.relay import region
from warren_operator.errors import ConfigError
from warren_operator.kinds import Kind
from warren_operator.naming import bounded
from warren_operator.relay_metrics import clients_in
from warren_operator.resources.derprelay import parse_relay
from warren_wire.control.messages import DERPRegion, decode

IMAGES = {"WARREN_IMAGE_CONTROL": "c", "WARREN_IMAGE_RELAY": "r", "WARREN_IMAGE_AGENT": "a"}


def test_a_long_name_stays_valid_and_its_own() -> None:
    long = "a" * 70
    assert bounded("short") == "short"
    assert len(bounded(long)) == 63
    assert bounded(long) != bounded(long + "b")


def test_paths_follow_the_group_of_the_kind() -> None:
    assert Kind.POD.path("x", "p", "log") == "/api/v1/namespaces/x/pods/p/log"
    assert Kind.MESH.path(None) == "/apis/warren.dev/v1alpha1/meshes"


def test_the_settings_have_defaults_for_all_but_the_images() -> None:
    config = OperatorConfig.from_environ(IMAGES)
    assert (config.namespaces, config.resync_seconds, config.images.pull_policy) == ((), 60.0, "IfNotPresent")


def test_all_problems_of_the_settings_are_told_at_once() -> None:
    environ = {
        "WARREN_IMAGE_AGENT": "a",
        "WARREN_IMAGE_PULL_POLICY": "Sometimes",
        "WARREN_RESYNC_SECONDS": "soon",
        "WARREN_HEALTH_LISTEN": "9090",
    }
    with pytest.raises(ConfigError) as caught:
        OperatorConfig.from_environ(environ)
    names = [line.split()[0] for line in str(caught.value).splitlines()]
    assert sorted(names) == [
        "WARREN_HEALTH_LISTEN",
        "WARREN_IMAGE_CONTROL",
        "WARREN_IMAGE_PULL_POLICY",
        "WARREN_IMAGE_RELAY",
        "WARREN_RESYNC_SECONDS",
    ]


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", None),
        ('{"message": "registered"}', None),
        (
            '{"message": "the control server refused to register this node", "reason": "unknown key"}',
            "unknown key",
        ),
        (
            '12:00 WARNING the control server refused to register this node reason="unknown key"',
            "unknown key",
        ),
        ("the control server refused to register this node", "no reason given"),
        ('{"message": "the control server refused to register this node", "reason": 7}', "no reason given"),
    ],
)
def test_the_newest_refusal_is_read_from_a_log(log: str, reason: str | None) -> None:
    assert last_refusal(log) == reason


def test_an_agent_whose_log_is_endless_does_not_fill_the_condition() -> None:
    line = '{"message": "the control server refused to register this node", "reason": "' + "x" * 9999 + '"}'
    assert len(last_refusal(line) or "") == 300


@pytest.mark.parametrize(
    ("text", "clients"),
    [
        ("# TYPE warren_relay_clients gauge\nwarren_relay_clients 3.0\n", 3),
        ("# TYPE other gauge\nother 1.0\n", 0),
        ("\x00 nonsense", 0),
    ],
)
def test_the_clients_of_a_relay_are_read_from_its_metrics(text: str, clients: int) -> None:
    assert clients_in(text) == clients


def test_the_region_is_in_the_shape_that_clients_know() -> None:
    entry = region(parse_relay(CASES["relay"]), "sha256-raw:" + "0" * 64)
    known = decode(DERPRegion, json.dumps(entry).encode())
    assert (known.region_id, known.region_code) == (901, "balcony")
    assert known.nodes is not None
    node = known.nodes[0]
    assert (node.host_name, node.derp_port, node.stun_port) == ("203.0.113.10", 8443, 3479)
    assert (node.ipv4, node.ipv6) == ("203.0.113.10", "none")
