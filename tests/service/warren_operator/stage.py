"""The operator with a real API server and a real control server; the test plays kubelet and controllers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from support.control_client import ControlClient, Identity
from support.operator_cases import IMAGES
from support.podplay import ControlPod, scheduled
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
