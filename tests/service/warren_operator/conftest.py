"""One real API server for all tests of the operator, a namespace for each."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.kubeapi import KubeApi, Programs, kube_api
from support.podplay import ControlPod
from warren_lab import tools
from warren_lab.errors import LabError
from warren_operator.cluster import KubernetesCluster

from .stage import Stage

CRDS = Path(__file__).parents[3] / "crds"
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first of them may have to build the API server."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApi]:
    """An API server that knows our kinds. Without controllers, so the tests play these."""
    try:
        toolbox = tools.ensure(("cluster",))
    except LabError as error:
        pytest.skip(f"needs a Kubernetes API server: {error}")
    programs = Programs(toolbox.path("etcd"), toolbox.path("kube-apiserver"), toolbox.path("kubectl"))
    with kube_api(programs, tmp_path_factory.mktemp("kube")) as api:
        applied = api.kubectl("apply", "-f", str(CRDS))
        assert applied.returncode == 0, applied.stderr
        waited = api.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        assert waited.returncode == 0, waited.stderr
        yield api


@pytest.fixture
def namespace(kube: KubeApi) -> str:
    name = f"test-{next(_numbers)}"
    made = kube.kubectl("create", "namespace", name)
    assert made.returncode == 0, made.stderr
    return name


@pytest.fixture
async def stage(
    kube: KubeApi, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig))
    cluster = KubernetesCluster.connect(str(kube.kubeconfig))
    made = Stage(cluster, namespace, ControlPod(cluster, namespace, tmp_path))
    made.start()
    yield made
    await made.kill()
    for client in made.clients:
        await client.close()
    await made.pod.stop()
