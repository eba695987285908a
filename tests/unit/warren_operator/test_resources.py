"""Custom resources as typed values."""

from __future__ import annotations

from typing import Any

import pytest

from warren_operator.errors import InvalidResourceError
from warren_operator.resources.derprelay import parse_relay
from warren_operator.resources.mesh import External, Managed, parse_mesh
from warren_operator.resources.node import parse_node


def resource(kind: str, spec: object, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "warren.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "home", "namespace": "default", "uid": "u", **metadata},
        "spec": spec,
    }


def test_a_mesh_of_a_url_alone_has_every_default() -> None:
    mesh = parse_mesh(resource("Mesh", {"controlServer": {"managed": {"url": "https://203.0.113.10/"}}}))
    control = mesh.control
    assert isinstance(control, Managed)
    assert (mesh.base_domain, mesh.v4, mesh.v6) == ("mesh.internal", "100.64.0.0/10", "fd7a:115c:a1e0::/48")
    assert control.url == "https://203.0.113.10"
    assert (control.host, control.secure, control.service.type) == ("203.0.113.10", True, "ClusterIP")
    assert control.claim is not None
    assert control.claim.size == "1Gi"
    assert (control.relay.host, control.relay.derp_port, control.relay.region_code) == (
        "203.0.113.10",
        443,
        "home",
    )
    assert mesh.agents.enabled
    assert mesh.agents.tolerations == ({"operator": "Exists"},)


def test_the_embedded_relay_follows_the_port_of_the_url() -> None:
    mesh = parse_mesh(resource("Mesh", {"controlServer": {"managed": {"url": "https://[2001:db8::1]:8443"}}}))
    assert isinstance(mesh.control, Managed)
    assert (mesh.control.relay.host, mesh.control.relay.derp_port) == ("2001:db8::1", 8443)


def test_an_external_mesh_names_its_secrets() -> None:
    external = {
        "url": "https://203.0.113.10",
        "joinSecretRef": {"name": "join"},
        "caSecretRef": {"name": "ca"},
    }
    mesh = parse_mesh(resource("Mesh", {"controlServer": {"external": external}}))
    assert isinstance(mesh.control, External)
    assert (mesh.control.join.key, mesh.control.ca and mesh.control.ca.key) == ("key", "ca.crt")


def test_all_problems_of_a_mesh_are_told_at_once_with_their_paths() -> None:
    spec = {
        "baseDomain": 7,
        "controlServer": {"managed": {"url": "ftp://h"}, "external": {"url": "https://h:x"}},
        "agents": {"port": "many", "advertise": {"podCIDRs": "10.0.0.0/8"}},
    }
    with pytest.raises(InvalidResourceError) as caught:
        parse_mesh(resource("Mesh", spec))
    paths = {problem.partition(":")[0] for problem in caught.value.problems}
    assert paths == {
        "spec.baseDomain",
        "spec.controlServer",
        "spec.controlServer.external.url",
        "spec.controlServer.external.joinSecretRef.name",
        "spec.agents.port",
        "spec.agents.advertise.podCIDRs",
    }


@pytest.mark.parametrize("spec", [None, 7, [], "x", {"controlServer": []}])
def test_a_spec_of_any_shape_is_refused_and_nothing_else_happens(spec: object) -> None:
    with pytest.raises(InvalidResourceError):
        parse_mesh(resource("Mesh", spec))


def test_a_node_tells_what_was_asked_and_what_was_not() -> None:
    node = parse_node(
        resource("Node", {"meshRef": {"name": "home"}, "tags": [], "addresses": {"v4": "100.64.0.9"}})
    )
    assert node.spec.tags == ()
    assert node.spec.approved_routes is None
    assert node.spec.disabled is None
    assert node.spec.addresses == ("100.64.0.9",)
    assert node.wanted_name == "home"
    assert not node.made_by_operator


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ({}, True),
        ({"matchLabels": {"site": "home"}}, True),
        ({"matchLabels": {"site": "office"}}, False),
        ({"matchExpressions": [{"key": "site", "operator": "In", "values": ["home", "x"]}]}, True),
        ({"matchExpressions": [{"key": "site", "operator": "NotIn", "values": ["home"]}]}, False),
        ({"matchExpressions": [{"key": "other", "operator": "NotIn", "values": ["home"]}]}, True),
        ({"matchExpressions": [{"key": "site", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "site", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selectors_match_as_the_api_server_matches(selector: dict[str, Any], matches: bool) -> None:
    spec = {"controlServer": {"managed": {"url": "https://h"}}, "relaySelector": selector}
    assert parse_mesh(resource("Mesh", spec)).relay_selector.matches({"site": "home"}) is matches


def test_a_relay_on_the_host_network_needs_no_reachable_service() -> None:
    spec = {"regionID": 901, "exposure": {"host": "192.0.2.7", "type": "HostNetwork"}}
    relay = parse_relay(resource("DerpRelay", spec))
    assert (relay.host_network, relay.service.type, relay.members_only) == (True, "ClusterIP", True)


def test_a_region_number_outside_the_private_range_is_refused() -> None:
    with pytest.raises(InvalidResourceError, match="900 to 999"):
        parse_relay(resource("DerpRelay", {"regionID": 5, "exposure": {"host": "192.0.2.7"}}))
