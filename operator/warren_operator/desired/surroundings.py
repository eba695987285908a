"""What the cluster's operators may want around the pods of control servers and relays: who reads their
metrics, and who reaches which of their ports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from warren_operator.config import Surroundings
from warren_operator.desired.objects import HEALTH_PORT
from warren_operator.kinds import Kind, Manifest
from warren_operator.naming import COMPONENT

_HEALTH: Final = "health"
_OPERATOR: Final[Manifest] = {
    "namespaceSelector": {},
    "podSelector": {"matchLabels": {COMPONENT: "operator"}},
}
"""It reads how many clients a relay has."""


def surrounded(manifests: Iterable[Manifest], wanted: Surroundings) -> list[Manifest]:
    """The manifests with scrape annotations on the pods of Deployments, and a NetworkPolicy for each."""
    found = []
    for manifest in manifests:
        if Kind.of(manifest) is not Kind.DEPLOYMENT:
            found.append(manifest)
            continue
        found.append(_scraped(manifest) if wanted.scrape_annotations else manifest)
        if wanted.network_policies:
            found.append(_policy(manifest, wanted.metrics_from))
    return found


def _scraped(deployment: Manifest) -> Manifest:
    template = deployment["spec"]["template"]
    annotations = {
        **template["metadata"].get("annotations", {}),
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(HEALTH_PORT),
    }
    template = {**template, "metadata": {**template["metadata"], "annotations": annotations}}
    return {**deployment, "spec": {**deployment["spec"], "template": template}}


def _policy(deployment: Manifest, metrics_from: tuple[Manifest, ...]) -> Manifest:
    """Its public ports for everyone, its metrics for those named and the operator."""
    ports = [
        port
        for container in deployment["spec"]["template"]["spec"]["containers"]
        for port in container.get("ports", ())
    ]
    public = [_port(port) for port in ports if port["name"] != _HEALTH]
    metrics: Manifest = {"ports": [_port(port) for port in ports if port["name"] == _HEALTH]}
    if metrics_from:
        metrics["from"] = [*metrics_from, _OPERATOR]
    metadata = deployment["metadata"]
    kept = ("name", "namespace", "labels", "ownerReferences")
    return {
        "apiVersion": Kind.NETWORK_POLICY.api_version,
        "kind": Kind.NETWORK_POLICY.kind,
        "metadata": {key: metadata[key] for key in kept},
        "spec": {
            "podSelector": deployment["spec"]["selector"],
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": public}, metrics],
        },
    }


def _port(port: Manifest) -> Manifest:
    return {"port": port["containerPort"], "protocol": port["protocol"]}
