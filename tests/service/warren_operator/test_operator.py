"""The operator with a real API server and a real control server; the test plays kubelet and controllers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from support.control_client import ControlClient, Identity
from support.kubeapi import KubeApi
from support.operator_cases import IMAGES
from support.podplay import ControlPod, available, scheduled
from warren_operator.app import Operator
from warren_operator.cluster import KubernetesCluster
from warren_operator.config import OperatorConfig
from warren_operator.kinds import Kind, Manifest
from warren_runtime.settings import Listen
from warren_runtime.tls import client_context

WITHIN_SECONDS = 30.0
OURS = {"app.kubernetes.io/managed-by": "warren-operator"}
MADE = (
    Kind.CONFIG_MAP,
    Kind.SECRET,
    Kind.SERVICE,
    Kind.SERVICE_ACCOUNT,
    Kind.DEPLOYMENT,
    Kind.DAEMON_SET,
    Kind.PERSISTENT_VOLUME_CLAIM,
)


@dataclass
class Stage:
    cluster: KubernetesCluster
    namespace: str
    pod: ControlPod
    operator: asyncio.Task[None] | None = None
    clients: list[ControlClient] = field(default_factory=list)

    def start(self) -> None:
        config = OperatorConfig(
            IMAGES,
            namespaces=(self.namespace,),
            health_listen=Listen("127.0.0.1", 0),
            resync_seconds=5.0,
            cleanup_seconds=5.0,
        )
        operator = Operator(config, self.cluster, locate=lambda *_: f"https://127.0.0.1:{self.pod.port}")
        self.operator = asyncio.create_task(operator.run(), name="operator")

    async def kill(self) -> None:
        if self.operator is not None:
            self.operator.cancel()
            await asyncio.gather(self.operator, return_exceptions=True)

    async def make(self, kind: Kind, name: str, spec: dict[str, Any]) -> Manifest:
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
        return await self.cluster.create(kind, manifest)

    async def get(self, kind: Kind, name: str) -> Manifest | None:
        return await self.cluster.get(kind, self.namespace, name)

    async def until(self, kind: Kind, name: str, check: Callable[[Manifest | None], Any]) -> Manifest:
        """The object once it is as `check` says."""
        found: Manifest | None = None

        async def holds() -> bool:
            nonlocal found
            found = await self.get(kind, name)
            return bool(check(found))

        try:
            await until(holds)
        except TimeoutError as error:
            if self.operator is not None and self.operator.done():
                await self.operator
            raise AssertionError(f"{kind.kind} {name} stays {found}") from error
        return found or {}

    async def ready_mesh(self) -> Manifest:
        await self.make(Kind.MESH, "home", MESH)
        await self.until(Kind.DAEMON_SET, "home-agent", present)
        await self.pod.start("home-control")
        await scheduled(self.cluster, self.namespace, "home-agent")
        return await self.until(Kind.MESH, "home", is_ready)

    async def join(self, hostname: str, **hostinfo: Any) -> ControlClient:
        ca_file = await self.pod.ca_file("home-control-tls")
        client = ControlClient(Identity(hostname), self.pod.port, client_context(ca_file))
        await client.connect()
        self.clients.append(client)
        answer = await client.register(self.pod.read("join/key"))
        assert answer.error == ""
        await client.poll(**hostinfo)
        return client

    async def versions(self) -> dict[str, str]:
        """What changes whenever anything is written."""
        lists = await asyncio.gather(
            *(self.cluster.list(kind, self.namespace) for kind in (*MADE, Kind.MESH, Kind.NODE))
        )
        return {
            f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for items in lists
            for item in items
        }


MESH: dict[str, Any] = {
    "controlServer": {"managed": {"url": "https://127.0.0.1", "storage": {"emptyDir": {}}}},
    "agents": {"advertise": {"podCIDRs": ["10.1.0.0/16"]}},
}


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while not await check():  # noqa: ASYNC110 - the API server is asked, as a person would
            await asyncio.sleep(0.1)


def present(found: Manifest | None) -> bool:
    return found is not None


def absent(found: Manifest | None) -> bool:
    return found is None


def condition(found: Manifest | None, kind: str = "Ready") -> dict[str, Any]:
    conditions = ((found or {}).get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item["type"] == kind), {})


def announced(found: Manifest | None) -> dict[str, Any]:
    return {"reason": "", **condition(found, "RegionAnnounced")}


def is_ready(found: Manifest | None) -> bool:
    return condition(found).get("status") == "True"


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


async def test_a_mesh_becomes_a_control_server_and_agents(stage: Stage) -> None:
    mesh = await stage.ready_mesh()
    assert mesh["status"]["observedGeneration"] == mesh["metadata"]["generation"]
    assert mesh["status"]["url"] == "https://127.0.0.1"
    assert mesh["status"]["secrets"] == {
        "adminToken": "home-admin",
        "ca": "home-control-tls",
        "joinKey": "home-join",
    }
    assert {item["type"]: item["status"] for item in mesh["status"]["conditions"]} == {
        "Ready": "True",
        "ControlServerReady": "True",
        "AgentsReady": "True",
        "JoinKeyAccepted": "True",
    }


async def test_a_restarted_operator_writes_nothing(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.join("web")
    await stage.until(Kind.NODE, "web", is_ready)
    await stage.until(Kind.MESH, "home", lambda mesh: mesh and mesh["status"].get("online") == 1)
    before = await stage.versions()
    await stage.kill()
    stage.start()
    node = await stage.make(Kind.NODE, "later", {"meshRef": {"name": "home"}})
    await stage.until(Kind.NODE, "later", lambda node: condition(node).get("reason") == "NotJoined")
    assert node
    after = await stage.versions()
    del after["Node/later"]
    assert after == before


async def test_machines_and_node_objects_follow_each_other(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.make(Kind.NODE, "nas", {"meshRef": {"name": "home"}, "tags": ["tag:storage"]})
    await stage.join("web")
    await stage.join("nas")
    web = await stage.until(Kind.NODE, "web", is_ready)
    assert web["status"]["online"] is True
    assert web["status"]["addresses"][0].startswith("100.")
    nas = await stage.until(Kind.NODE, "nas", is_ready)
    assert nas["status"]["tags"] == ["tag:storage"]
    mesh = await stage.until(Kind.MESH, "home", lambda mesh: mesh and mesh["status"].get("nodes") == 2)
    assert mesh["status"]["online"] == 2

    await stage.cluster.merge(Kind.NODE, stage.namespace, "web", {"spec": {"name": "page"}})
    await stage.until(Kind.NODE, "web", lambda node: node and node["status"]["name"] == "page")
    await stage.cluster.merge(Kind.NODE, stage.namespace, "web", {"spec": {"name": "nas"}})
    taken = await stage.until(Kind.NODE, "web", lambda node: condition(node).get("reason") == "Refused")
    assert "nas" in condition(taken)["message"]

    await stage.cluster.delete(Kind.NODE, stage.namespace, "web")
    await stage.until(Kind.NODE, "web", absent)
    await stage.until(Kind.MESH, "home", lambda mesh: mesh and mesh["status"].get("nodes") == 1)


async def test_a_machine_that_goes_offline_is_shown_as_such(stage: Stage) -> None:
    await stage.ready_mesh()
    client = await stage.join("web")
    await stage.until(Kind.NODE, "web", lambda node: node and (node.get("status") or {}).get("online"))
    await client.close()
    gone = await stage.until(Kind.NODE, "web", lambda node: node and not node["status"]["online"])
    assert gone["status"]["lastSeen"]


async def test_a_relay_comes_into_the_relay_map_and_goes(stage: Stage) -> None:
    await stage.ready_mesh()
    client = await stage.join("web")
    spec = {"regionID": 901, "exposure": {"host": "192.0.2.7", "type": "ClusterIP"}}
    await stage.make(Kind.DERP_RELAY, "balcony", spec)
    await stage.until(Kind.DEPLOYMENT, "balcony-relay", present)
    await available(stage.cluster, stage.namespace, "balcony-relay")
    relay = await stage.until(Kind.DERP_RELAY, "balcony", is_ready)
    assert relay["status"]["meshes"] == ["home"]

    def regions() -> set[int]:
        derp_map = client.netmap.derp_map
        return set(derp_map.regions or {}) if derp_map is not None else set()

    await client.until(lambda: regions() == {900, 901})
    await stage.make(Kind.DERP_RELAY, "cellar", spec)
    second = await stage.until(
        Kind.DERP_RELAY, "cellar", lambda relay: announced(relay)["reason"] == "Refused"
    )
    assert "already that of DerpRelay balcony" in announced(second)["message"]
    await stage.cluster.delete(Kind.DERP_RELAY, stage.namespace, "cellar")
    await stage.cluster.delete(Kind.DERP_RELAY, stage.namespace, "balcony")
    await client.until(lambda: regions() == {900})


async def test_a_control_server_that_goes_and_comes_back(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.pod.stop()
    await stage.until(Kind.MESH, "home", lambda mesh: condition(mesh).get("reason") == "NotAnswering")
    await stage.pod.start("home-control")
    await stage.until(Kind.MESH, "home", is_ready)


async def test_what_someone_changed_is_put_back(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.cluster.merge(
        Kind.DEPLOYMENT, stage.namespace, "home-control", {"spec": {"strategy": {"type": "RollingUpdate"}}}
    )
    await stage.until(
        Kind.DEPLOYMENT,
        "home-control",
        lambda found: found and found["spec"]["strategy"]["type"] == "Recreate",
    )
    await stage.cluster.delete(Kind.SERVICE, stage.namespace, "home-control")
    await stage.until(Kind.SERVICE, "home-control", present)


async def test_a_deleted_mesh_leaves_nothing(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.join("web")
    await stage.until(Kind.NODE, "web", is_ready)
    await stage.cluster.delete(Kind.MESH, stage.namespace, "home")
    await stage.until(Kind.DAEMON_SET, "home-cleanup", present)
    assert await stage.get(Kind.DAEMON_SET, "home-agent") is None
    await scheduled(stage.cluster, stage.namespace, "home-cleanup")
    # No controller takes the volume's or the pods' place here, so what is left is what the operator left.
    await stage.until(Kind.MESH, "home", absent)
    for kind in MADE:
        assert await stage.cluster.list(kind, stage.namespace, OURS) == []
    assert await stage.cluster.list(Kind.NODE, stage.namespace) == []


async def test_deletion_finishes_although_the_operator_is_killed_again_and_again(stage: Stage) -> None:
    await stage.ready_mesh()
    await stage.cluster.delete(Kind.MESH, stage.namespace, "home")
    for _ in range(20):
        await stage.kill()
        stage.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await stage.until(Kind.MESH, "home", absent)
        if await stage.get(Kind.MESH, "home") is None:
            break
    assert await stage.get(Kind.MESH, "home") is None
    assert await stage.cluster.list(Kind.DAEMON_SET, stage.namespace) == []


async def test_keys_are_never_replaced(stage: Stage) -> None:
    await stage.ready_mesh()
    names = ("home-keys", "home-admin", "home-join", "home-ca")
    before = [(await stage.get(Kind.SECRET, name) or {})["data"] for name in names]
    await stage.kill()
    await stage.cluster.merge(Kind.MESH, stage.namespace, "home", {"spec": {"agents": {"port": 51820}}})
    stage.start()
    await stage.until(
        Kind.MESH,
        "home",
        lambda mesh: mesh and mesh["status"]["observedGeneration"] == mesh["metadata"]["generation"],
    )
    assert [(await stage.get(Kind.SECRET, name) or {})["data"] for name in names] == before
