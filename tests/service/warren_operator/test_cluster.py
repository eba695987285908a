"""What the operator's `Cluster` promises: a real API server, and the one in memory that tests use."""

from __future__ import annotations

from typing import Any

import pytest

from support.fakecluster import FakeCluster
from support.kubeapi import KubeApi
from warren_operator.cluster import Cluster, KubernetesCluster
from warren_operator.errors import ConflictError, NotFoundError, RefusedError
from warren_operator.kinds import Kind

CONFIG = Kind.CONFIG_MAP


@pytest.fixture(params=["real", "in memory"])
def cluster(request: pytest.FixtureRequest, kube: KubeApi) -> Cluster:
    return KubernetesCluster.connect(str(kube.kubeconfig)) if request.param == "real" else FakeCluster()


@pytest.fixture
def real(kube: KubeApi) -> Cluster:
    return KubernetesCluster.connect(str(kube.kubeconfig))


def config_map(namespace: str, name: str = "a", **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": {"part": name}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **fields}


async def test_what_is_not_there_is_nothing(cluster: Cluster, namespace: str) -> None:
    assert await cluster.get(CONFIG, namespace, "a") is None
    await cluster.delete(CONFIG, namespace, "a")
    with pytest.raises(NotFoundError):
        await cluster.merge(CONFIG, namespace, "a", {"data": {}})


async def test_what_is_there_is_not_made_again(cluster: Cluster, namespace: str) -> None:
    await cluster.create(CONFIG, config_map(namespace, data={"x": "1"}))
    with pytest.raises(ConflictError):
        await cluster.create(CONFIG, config_map(namespace))
    assert (await cluster.get(CONFIG, namespace, "a") or {})["data"] == {"x": "1"}


async def test_lists_follow_labels_and_say_what_kind_their_items_are(
    cluster: Cluster, namespace: str
) -> None:
    for name in ("a", "b"):
        await cluster.create(CONFIG, config_map(namespace, name))
    found = await cluster.list(CONFIG, namespace, {"part": "b"})
    assert [(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in found] == [
        ("v1", "ConfigMap", "b")
    ]


async def test_a_patch_with_an_old_version_is_refused(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(CONFIG, config_map(namespace))
    version = made["metadata"]["resourceVersion"]
    await cluster.merge(
        CONFIG, namespace, "a", {"metadata": {"resourceVersion": version}, "data": {"x": "1"}}
    )
    with pytest.raises(ConflictError):
        await cluster.merge(
            CONFIG, namespace, "a", {"metadata": {"resourceVersion": version}, "data": {"x": "2"}}
        )


async def test_only_the_one_that_was_meant_is_deleted(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(CONFIG, config_map(namespace))
    await cluster.delete(CONFIG, namespace, "a", "00000000-0000-0000-0000-000000000000")
    assert await cluster.get(CONFIG, namespace, "a") is not None
    await cluster.delete(CONFIG, namespace, "a", made["metadata"]["uid"])
    assert await cluster.get(CONFIG, namespace, "a") is None


async def test_a_finalizer_holds_an_object_until_it_is_taken_away(cluster: Cluster, namespace: str) -> None:
    manifest = config_map(namespace)
    manifest["metadata"]["finalizers"] = ["warren.dev/cleanup"]
    await cluster.create(CONFIG, manifest)
    await cluster.delete(CONFIG, namespace, "a")
    assert "deletionTimestamp" in (await cluster.get(CONFIG, namespace, "a") or {})["metadata"]
    await cluster.merge(CONFIG, namespace, "a", {"metadata": {"finalizers": []}})
    assert await cluster.get(CONFIG, namespace, "a") is None


async def test_status_is_written_by_itself(cluster: Cluster, namespace: str) -> None:
    spec = {"meshRef": {"name": "home"}}
    metadata = {"name": "web", "namespace": namespace}
    node = {"apiVersion": "warren.dev/v1alpha1", "kind": "Node", "metadata": metadata, "spec": spec}
    made = await cluster.create(Kind.NODE, node)
    patch = {"status": {"id": 7}, "spec": {"name": "other"}}
    after = await cluster.merge(Kind.NODE, namespace, "web", patch, subresource="status")
    assert after["status"] == {"id": 7}
    assert after["spec"] == spec
    assert after["metadata"]["generation"] == made["metadata"]["generation"]


async def test_applying_makes_and_changes(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(config_map(namespace, data={"x": "1"}))
    await cluster.apply(config_map(namespace, data={"x": "2"}))
    assert (await cluster.get(CONFIG, namespace, "a") or {})["data"] == {"x": "2"}


async def test_applying_removes_what_it_wrote_before_and_keeps_what_others_wrote(
    real: Cluster, namespace: str
) -> None:
    await real.apply(config_map(namespace, data={"ours": "1", "gone": "1"}))
    await real.merge(CONFIG, namespace, "a", {"data": {"theirs": "1"}})
    await real.apply(config_map(namespace, data={"ours": "2"}))
    assert (await real.get(CONFIG, namespace, "a") or {})["data"] == {"ours": "2", "theirs": "1"}


async def test_what_the_api_server_refuses_is_told_in_its_words(real: Cluster, namespace: str) -> None:
    metadata = {"name": "bad", "namespace": namespace}
    mesh = {
        "apiVersion": "warren.dev/v1alpha1",
        "kind": "Mesh",
        "metadata": metadata,
        "spec": {"controlServer": {}},
    }
    with pytest.raises(RefusedError, match="give exactly one of"):
        await real.apply(mesh)


async def test_long_lists_come_in_pages(kube: KubeApi, namespace: str) -> None:
    real = KubernetesCluster.connect(str(kube.kubeconfig), page=2)
    for number in range(5):
        await real.create(CONFIG, config_map(namespace, f"a{number}"))
    found = await real.list(CONFIG, namespace)
    assert [item["metadata"]["name"] for item in found] == [f"a{number}" for number in range(5)]
