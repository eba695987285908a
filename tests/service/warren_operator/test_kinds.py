"""What the API server accepts of our kinds, what it refuses, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.kubeapi import KubeApi
from support.operator_cases import EXAMPLES

MANAGED = {"managed": {"url": "https://203.0.113.10"}}


def mesh(control: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {"kind": "Mesh", "spec": {"controlServer": MANAGED if control is None else control, **spec}}


def url(text: str) -> dict[str, Any]:
    return mesh({"managed": {"url": text}})


def managed(**fields: Any) -> dict[str, Any]:
    return mesh({"managed": {"url": "https://203.0.113.10", **fields}})


def advertise(**ranges: list[str]) -> dict[str, Any]:
    return mesh(agents={"advertise": ranges})


def relay(**spec: Any) -> dict[str, Any]:
    return {"kind": "DerpRelay", "spec": {"regionID": 901, "exposure": {"host": "192.0.2.7"}, **spec}}


def node(**spec: Any) -> dict[str, Any]:
    return {"kind": "Node", "spec": {"meshRef": {"name": "home"}, **spec}}


def apply(kube: KubeApi, namespace: str, resource: dict[str, Any], *options: str) -> str:
    """What kubectl says."""
    whole = {
        "apiVersion": "warren.dev/v1alpha1",
        **resource,
        "metadata": {"name": resource.get("name", "home"), "namespace": namespace},
    }
    whole.pop("name", None)
    done = kube.kubectl("apply", *options, "-f", "-", stdin=json.dumps(whole))
    return done.stdout if done.returncode == 0 else done.stderr


ACCEPTED = [
    mesh(),
    url("https://control.example.net:8443"),
    url("https://[2001:db8::1]/"),
    url("http://10.1.2.3:8080"),
    url("http://[fd00::1]:8080"),
    url("http://localhost:8080"),
    managed(storage={"emptyDir": {}}),
    managed(service={"type": "NodePort", "nodePort": 30443, "stunNodePort": 30478}),
    mesh(addresses={"v4": "100.64.0.0/16", "v6": "fd7a:115c:a1e0:1::/64"}),
    mesh({"external": {"url": "https://203.0.113.10", "joinSecretRef": {"name": "join"}}}),
    advertise(podCIDRs=["10.1.0.0/16", "fd00:1::/64"], serviceCIDRs=["10.96.0.0/16"]),
    relay(),
    relay(exposure={"host": "192.0.2.7", "type": "HostNetwork"}, admission="Anyone"),
    node(),
    node(name="web", tags=["tag:db"], approvedRoutes=["10.1.0.0/16"], addresses={"v4": "100.64.0.9"}),
]

REFUSED = [
    (url("http://203.0.113.10"), "http:// is for private addresses only"),
    (url("http://10.example.net"), "http:// is for private addresses only"),
    (url("http://192.168.evil.example"), "http:// is for private addresses only"),
    (url("nonsense"), "must be a URL such as https://203.0.113.10"),
    (url("ftp://203.0.113.10"), "must be a URL such as https://203.0.113.10"),
    (url("https://203.0.113.10/warren"), "must have no path"),
    (mesh({}), "give exactly one of controlServer.managed and controlServer.external"),
    (
        mesh({**MANAGED, "external": {"url": "https://h", "joinSecretRef": {"name": "join"}}}),
        "give exactly one of controlServer.managed and controlServer.external",
    ),
    (mesh({"external": {"url": "https://203.0.113.10"}}), "joinSecretRef: Required value"),
    (mesh(addresses={"v4": "10.0.0.0/8"}), "must lie inside 100.64.0.0/10"),
    (mesh(addresses={"v4": "bogus"}), "must be an IPv4 prefix such as 100.64.0.0/10"),
    (mesh(addresses={"v4": "100.64.0.1/16"}), "must be a prefix without host bits"),
    (mesh(addresses={"v4": "100.64.0.0/28"}), "be a /24 or larger"),
    (mesh(addresses={"v6": "fd00::/48"}), "must lie inside fd7a:115c:a1e0::/48"),
    (mesh(baseDomain="Not A Domain"), "spec.baseDomain"),
    (advertise(podCIDRs=["10.1.0.0/16"], serviceCIDRs=["10.1.4.0/24"]), "podCIDRs and serviceCIDRs overlap"),
    (advertise(podCIDRs=["10.1.0.0/16", "10.1.2.0/24"]), "these prefixes overlap each other"),
    (advertise(podCIDRs=["10.1.0.0/16", "10.1.0.0/16"]), "these prefixes overlap each other"),
    (advertise(podCIDRs=["10.1.0.0/33"]), "must be a prefix such as 10.1.0.0/16"),
    (advertise(podCIDRs=["10.1.2.3/24"]), "must be a prefix without host bits"),
    (advertise(podCIDRs=["0.0.0.0/0"]), "must not be a default route"),
    (advertise(podCIDRs=["100.64.1.0/24"]), "agents.advertise.podCIDRs overlaps the mesh's own addresses.v4"),
    (advertise(serviceCIDRs=["fd7a:115c:a1e0::/64"]), "overlaps the mesh's own addresses.v6"),
    (mesh(agents={"dataPlain": "kernel"}), 'unknown field "spec.agents.dataPlain"'),
    (mesh(agents={"dataPlane": "fast"}), 'supported values: "auto", "kernel", "userspace"'),
    (mesh(agents={"port": 70000}), "should be less than or equal to 65535"),
    (managed(relay={"regionID": 5}), "should be greater than or equal to 900"),
    (managed(service={"nodePort": 30443}), "nodePort and stunNodePort need type NodePort or LoadBalancer"),
    (managed(storage={"emptyDir": {}, "persistentVolumeClaim": {}}), "give exactly one of storage"),
    (managed(storage={"persistentVolumeClaim": {"size": "much"}}), "must be a size such as 1Gi"),
    ({**mesh(), "name": "a" * 41}, "at most 40 characters"),
    (relay(regionID=1), "should be greater than or equal to 900"),
    (relay(exposure={}), "exposure.host: Required value"),
    (relay(replicas=17), "should be less than or equal to 16"),
    (node(tags=["db"]), "spec.tags[0]"),
    (node(approvedRoutes=["10.1.0.0"]), "must be a prefix such as 10.1.0.0/16"),
    (node(addresses={"v4": "192.0.2.1"}), "must be an address inside 100.64.0.0/10"),
]


@pytest.mark.parametrize("resource", ACCEPTED, ids=lambda resource: json.dumps(resource["spec"])[:60])
def test_these_are_accepted(kube: KubeApi, namespace: str, resource: dict[str, Any]) -> None:
    assert "created (server dry run)" in apply(kube, namespace, resource, "--dry-run=server")


@pytest.mark.parametrize(("resource", "words"), REFUSED, ids=lambda value: str(value)[:60])
def test_these_are_refused_in_plain_words(
    kube: KubeApi, namespace: str, resource: dict[str, Any], words: str
) -> None:
    said = apply(kube, namespace, resource, "--dry-run=server")
    assert words in said
    assert "no such overload" not in said
    assert "evaluation" not in said


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (mesh(), mesh(baseDomain="other.internal"), "baseDomain cannot be changed"),
        (mesh(), mesh(addresses={"v4": "100.64.0.0/16"}), "addresses cannot be changed"),
        (
            mesh(),
            mesh({"external": {"url": "https://h", "joinSecretRef": {"name": "join"}}}),
            "a Mesh cannot move between managed and external",
        ),
        (relay(), relay(regionID=902), "regionID cannot be changed"),
        (
            node(),
            {"kind": "Node", "spec": {"meshRef": {"name": "office"}}},
            "a Node cannot move to another Mesh",
        ),
    ],
    ids=["baseDomain", "addresses", "controlServer", "regionID", "meshRef"],
)
def test_what_others_rely_on_cannot_be_changed(
    kube: KubeApi, namespace: str, before: dict[str, Any], after: dict[str, Any], words: str
) -> None:
    assert "created" in apply(kube, namespace, before)
    assert words in apply(kube, namespace, after)


def test_the_examples_are_accepted(kube: KubeApi) -> None:
    kube.kubectl("create", "namespace", "warren-system")
    for path in sorted(EXAMPLES.glob("*/*.yaml")):
        done = kube.kubectl("apply", "--dry-run=server", "-f", str(path))
        assert done.returncode == 0, done.stderr


def test_columns_show_what_a_person_looks_for(kube: KubeApi, namespace: str) -> None:
    for resource in (mesh(), relay(), node()):
        apply(kube, namespace, resource)
    headings = {
        kind: kube.kubectl("get", kind, "-n", namespace).stdout.splitlines()[0].split("  ")
        for kind in ("mesh", "nodes.warren.dev", "derprelay", "wm", "wn", "derp")
    }
    shown = {kind: [word.strip() for word in words if word.strip()] for kind, words in headings.items()}
    assert shown["mesh"] == shown["wm"] == ["NAME", "READY", "URL", "NODES", "AGE"]
    assert shown["nodes.warren.dev"] == ["NAME", "ADDRESS", "ENDPOINT", "RELAY", "ONLINE", "LAST SEEN"]
    assert shown["derprelay"] == shown["derp"] == ["NAME", "READY", "REGION", "CLIENTS", "HOST", "AGE"]
