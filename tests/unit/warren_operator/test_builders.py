"""Meshes and relays into manifests: the examples in, whole manifests out.

After an intended change, `python tests/unit/warren_operator/golden/write.py` writes the expected files anew.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.operator_cases import CASES, built
from warren_agent.config import parse as parse_agent_config
from warren_control.config import parse as parse_control_config
from warren_operator.kinds import Kind
from warren_operator.naming import FIELD_MANAGER, MANAGED_BY
from warren_relay.config import parse as parse_relay_config

GOLDEN = Path(__file__).parent / "golden"

Manifests = list[dict[str, Any]]


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_manifests_are_exactly_these(case: str) -> None:
    expected = list(yaml.safe_load_all((GOLDEN / f"{case}.yaml").read_text()))
    assert built(case) == expected


def test_building_changes_nothing_it_was_given(case: str) -> None:
    before = copy.deepcopy(CASES[case])
    built(case)
    assert before == CASES[case]


def test_building_twice_gives_the_same(case: str) -> None:
    assert built(case) == built(case)


def test_every_object_is_labelled_as_ours(case: str) -> None:
    for manifest in built(case):
        assert manifest["metadata"]["labels"][MANAGED_BY] == FIELD_MANAGER


def test_everything_but_the_clean_up_goes_with_its_owner(case: str) -> None:
    for manifest in built(case):
        assert ("ownerReferences" in manifest["metadata"]) is not manifest["metadata"]["name"].endswith(
            "-cleanup"
        )


def containers(case: str) -> list[dict[str, Any]]:
    found = []
    for manifest in built(case):
        if Kind.of(manifest) in (Kind.DEPLOYMENT, Kind.DAEMON_SET):
            found += manifest["spec"]["template"]["spec"]["containers"]
    return found


def test_no_container_is_privileged_and_none_has_more_than_it_needs(case: str) -> None:
    for container in containers(case):
        context = container["securityContext"]
        assert "privileged" not in context
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"]
        assert set(context["capabilities"].get("add", [])) <= {"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"}
        assert container["resources"]["requests"]


def test_no_pod_gets_a_token_of_the_api_server(case: str) -> None:
    for manifest in built(case):
        if Kind.of(manifest) in (Kind.DEPLOYMENT, Kind.DAEMON_SET):
            assert manifest["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def config(case: str, name: str) -> dict[str, Any]:
    manifest = next(
        item for item in built(case) if item["kind"] == "ConfigMap" and item["metadata"]["name"] == name
    )
    value: dict[str, Any] = yaml.safe_load(manifest["data"]["config.yaml"])
    return value


def test_the_control_server_accepts_its_configuration() -> None:
    accepted = parse_control_config(config("managed", "home-control"))
    assert accepted.server_url == "https://203.0.113.10"
    assert accepted.relay is not None
    assert [str(route) for route in accepted.bootstrap_keys[0].approve_routes] == [
        "10.1.0.0/16",
        "10.101.0.0/16",
    ]


@pytest.mark.parametrize(("case_name", "name"), [("managed", "home-agent"), ("external", "office-agent")])
def test_the_agent_accepts_its_configuration(case_name: str, name: str) -> None:
    accepted = parse_agent_config(config(case_name, name), "node")
    assert accepted.server_url == "https://203.0.113.10"
    assert accepted.userspace_external


@pytest.mark.parametrize(("case_name", "mode"), [("relay", "members"), ("relay-open", "open")])
def test_the_relay_accepts_its_configuration(case_name: str, mode: str) -> None:
    accepted = parse_relay_config(config(case_name, "balcony-relay"))
    assert accepted.admission.mode.value == mode


def test_a_changed_configuration_restarts_the_pods() -> None:
    def fingerprint(manifests: Manifests) -> str:
        daemon_set = next(item for item in manifests if item["kind"] == "DaemonSet")
        return str(daemon_set["spec"]["template"]["metadata"]["annotations"]["warren.dev/config"])

    other = copy.deepcopy(CASES["external"])
    other["spec"]["agents"]["port"] = 51820
    assert fingerprint(built("external")) != fingerprint(built("external", other))
