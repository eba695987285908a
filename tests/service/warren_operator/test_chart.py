"""The chart, rendered by the real Helm and accepted by a real API server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.kubeapi import KubeApi
from support.operator_cases import ROOT, built
from warren_lab import tools
from warren_lab.errors import LabError
from warren_operator.config import OperatorConfig, Surroundings
from warren_operator.desired.surroundings import surrounded
from warren_operator.plan import without_nulls

CHART = ROOT / "charts" / "warren"

Helm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def helm() -> Helm:
    try:
        program = tools.ensure(("cluster",)).path("helm")
    except LabError as error:
        pytest.skip(f"needs helm: {error}")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(program), *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    return run


def rendered(helm: Helm, *values: str) -> list[dict[str, Any]]:
    options = [option for value in values for option in ("--set", value)]
    done = helm("template", "warren", str(CHART), "--namespace", "warren-system", *options)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def operator(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    deployment = next(manifest for manifest in manifests if manifest["kind"] == "Deployment")
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


def test_the_chart_has_no_fault_that_helm_knows(helm: Helm) -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


def test_the_operator_accepts_what_the_values_give_it(helm: Helm) -> None:
    container = operator(
        rendered(
            helm,
            "images.registry=registry.example.org/warren",
            "images.tag=v2",
            "operator.watchNamespaces={a,b}",
        )
    )
    environ = {item["name"]: item["value"] for item in container["env"]}
    config = OperatorConfig.from_environ(environ)
    assert config.images.agent == "registry.example.org/warren/warren-agent:v2"
    assert config.namespaces == ("a", "b")
    assert container["image"] == "registry.example.org/warren/warren-operator:v2"


def test_a_network_policy_and_its_peers_reach_the_operator(helm: Helm) -> None:
    peer = "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring"
    manifests = rendered(helm, "networkPolicy.enabled=true", peer, "metrics.podMonitor.enabled=true")
    environ = {item["name"]: item["value"] for item in operator(manifests)["env"]}
    surroundings = OperatorConfig.from_environ(environ).surroundings
    expected = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
    assert surroundings.network_policies
    assert surroundings.metrics_from == (expected,)
    (policy,) = (manifest for manifest in manifests if manifest["kind"] == "NetworkPolicy")
    assert policy["spec"]["ingress"][0]["from"] == [expected]
    (monitor,) = (manifest for manifest in manifests if manifest["kind"] == "PodMonitor")
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == "health"


@pytest.mark.parametrize(
    "image", ["localhost/warren-agent:abc", "localhost:5000/agent:1", "localhost/agent@sha256:" + "0" * 64]
)
def test_an_image_with_a_tag_or_digest_is_taken_as_it_is(helm: Helm, image: str) -> None:
    environ = {
        item["name"]: item["value"] for item in operator(rendered(helm, f"images.agent={image}"))["env"]
    }
    assert environ["WARREN_IMAGE_AGENT"] == image


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("images.tagg=x", "tagg"),
        ("operator.resyncSeconds=0", "resyncSeconds"),
        ("images.pullPolicy=Sometimes", "pullPolicy"),
        ("networkPolicy.enabled=perhaps", "networkPolicy"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(helm: Helm, value: str, words: str) -> None:
    done = helm("template", "warren", str(CHART), "--set", value)
    assert done.returncode != 0
    assert words in done.stderr


def can_i(kube: KubeApi, verb: str, resource: str, where: str) -> bool:
    account = "--as=system:serviceaccount:warren-system:warren-operator"
    answer = kube.kubectl("auth", "can-i", verb, resource, account, f"--namespace={where}")
    return answer.stdout.strip() == "yes"


def test_an_operator_of_some_namespaces_has_no_right_in_others(
    kube: KubeApi, helm: Helm, namespace: str, tmp_path: Path
) -> None:
    kube.kubectl("create", "namespace", "warren-system")
    manifests = tmp_path / "all.yaml"
    manifests.write_text(yaml.safe_dump_all(rendered(helm, f"operator.watchNamespaces={{{namespace}}}")))
    done = kube.kubectl("apply", "-f", str(manifests))
    assert done.returncode == 0, done.stderr
    assert can_i(kube, "patch", "daemonsets.apps", namespace)
    assert can_i(kube, "get", "pods/log", namespace)
    assert can_i(kube, "list", "customresourcedefinitions.apiextensions.k8s.io", "default")
    assert not can_i(kube, "get", "secrets", "default")
    assert not can_i(kube, "create", "clusterrolebindings", namespace)
    kube.kubectl("delete", "-f", str(manifests))


def test_what_the_chart_makes_is_accepted(kube: KubeApi, helm: Helm, tmp_path: Path) -> None:
    kube.kubectl("create", "namespace", "warren-system")
    manifests = tmp_path / "all.yaml"
    peer = "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring"
    manifests.write_text(yaml.safe_dump_all(rendered(helm, "networkPolicy.enabled=true", peer)))
    done = kube.kubectl("apply", "--dry-run=server", "-f", str(manifests))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", ["managed", "relay", "relay-hosts"])
def test_what_the_operator_makes_with_network_policies_is_accepted(
    kube: KubeApi, tmp_path: Path, case: str
) -> None:
    kube.kubectl("create", "namespace", "warren-system")
    monitoring = {"podSelector": {"matchLabels": {"app": "prometheus"}}}
    wanted = Surroundings(network_policies=True, metrics_from=(monitoring,))
    made = [without_nulls(manifest) for manifest in surrounded(built(case), wanted)]
    assert any(manifest["kind"] == "NetworkPolicy" for manifest in made)
    manifests = tmp_path / "all.yaml"
    manifests.write_text(yaml.safe_dump_all(made))
    done = kube.kubectl("apply", "--dry-run=server", "-f", str(manifests))
    assert done.returncode == 0, done.stderr
