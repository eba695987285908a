"""What is made around the pods of control servers and relays."""

from __future__ import annotations

import copy

from support.operator_cases import built
from warren_operator.config import Surroundings
from warren_operator.desired.surroundings import surrounded
from warren_operator.kinds import Kind, Manifest


def of_kind(manifests: list[Manifest], kind: Kind) -> list[Manifest]:
    return [manifest for manifest in manifests if Kind.of(manifest) is kind]


def test_metrics_are_announced_to_prometheus_unless_that_is_switched_off() -> None:
    for wanted in (True, False):
        (deployment,) = of_kind(surrounded(built("relay"), Surroundings(wanted)), Kind.DEPLOYMENT)
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        assert annotations.get("prometheus.io/port") == ("9090" if wanted else None)
        assert "warren.dev/config" in annotations


def test_nothing_given_is_changed() -> None:
    given = built("relay")
    before = copy.deepcopy(given)
    surrounded(given, Surroundings(network_policies=True))
    assert given == before


def test_by_default_there_is_no_network_policy() -> None:
    assert of_kind(surrounded(built("managed"), Surroundings()), Kind.NETWORK_POLICY) == []


def test_a_network_policy_opens_the_served_ports_and_the_metrics_to_those_named_and_the_operator() -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    wanted = Surroundings(network_policies=True, metrics_from=(monitoring,))
    manifests = surrounded(built("relay"), wanted)
    (policy,) = of_kind(manifests, Kind.NETWORK_POLICY)
    (deployment,) = of_kind(manifests, Kind.DEPLOYMENT)
    spec = policy["spec"]
    assert spec["podSelector"] == deployment["spec"]["selector"]
    assert policy["metadata"]["ownerReferences"] == deployment["metadata"]["ownerReferences"]
    public, metrics = spec["ingress"]
    assert public == {"ports": [{"port": 8443, "protocol": "TCP"}, {"port": 3478, "protocol": "UDP"}]}
    assert metrics["ports"] == [{"port": 9090, "protocol": "TCP"}]
    assert metrics["from"][0] == monitoring
    assert {"app.kubernetes.io/component": "operator"} in [
        peer.get("podSelector", {}).get("matchLabels") for peer in metrics["from"]
    ]


def test_agents_are_on_the_hosts_network_and_get_neither() -> None:
    manifests = built("external")
    assert surrounded(manifests, Surroundings(network_policies=True)) == manifests
