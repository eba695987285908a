"""Small pure parts: names, settings, agents' logs, the relay's metrics and its entry in the relay map."""

from __future__ import annotations

import json

import pytest

from support.operator_cases import CASES
from warren_operator.agentlog import last_refusal
from warren_operator.config import OperatorConfig
from warren_operator.desired.regions import HostAddress, hosts_of, region
from warren_operator.errors import ConfigError
from warren_operator.kinds import Kind, Manifest
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
        "WARREN_NETWORK_POLICIES": "perhaps",
        "WARREN_METRICS_FROM": "[1]",
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
        "WARREN_METRICS_FROM",
        "WARREN_NETWORK_POLICIES",
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


def pod(name: str, *addresses: str, machine: str = "", **metadata: str) -> Manifest:
    status = {"hostIP": addresses[0], "hostIPs": [{"ip": each} for each in addresses]} if addresses else {}
    return {"metadata": {"name": name, **metadata}, "spec": {"nodeName": machine or name}, "status": status}


def machine(*external: str) -> Manifest:
    listed = [{"type": "InternalIP", "address": "10.0.0.9"}]
    return {"status": {"addresses": listed + [{"type": "ExternalIP", "address": each} for each in external]}}


def test_replicas_on_their_nodes_network_are_reached_at_external_addresses_where_there_are_any() -> None:
    pods = [
        pod("b", "10.0.0.2", "fd00::2"),
        pod("a", "10.0.0.1", "fd00::1"),
        pod("waiting"),
        pod("leaving", "10.0.0.3", deletionTimestamp="2026-01-01T00:00:00Z"),
    ]
    assert hosts_of(pods, {"a": machine("203.0.113.1"), "b": machine()}) == [
        HostAddress("10.0.0.2", "fd00::2"),
        HostAddress("203.0.113.1", ""),
    ]


def test_each_replica_with_an_address_is_a_node_of_the_region_under_the_one_name() -> None:
    relay = parse_relay(CASES["relay-hosts"])
    entry = region(relay, "", [HostAddress("203.0.113.1", ""), HostAddress("203.0.113.2", "2001:db8::2")])
    known = decode(DERPRegion, json.dumps(entry).encode())
    assert known.nodes is not None
    assert [(node.name, node.host_name, node.ipv4, node.ipv6) for node in known.nodes] == [
        ("901a", "relay.example.org", "203.0.113.1", "none"),
        ("901b", "relay.example.org", "203.0.113.2", "2001:db8::2"),
    ]
