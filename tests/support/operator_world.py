"""A cluster in memory with one Mesh, looked at as the operator does, and a clock that a test moves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from support.fakecluster import FakeCluster
from support.operator_cases import IMAGES, example
from warren_operator.config import OperatorConfig
from warren_operator.control_clients import ControlClients
from warren_operator.kinds import Kind
from warren_operator.reconcile.context import Context
from warren_operator.reconcile.mesh import look_at_mesh
from warren_operator.watcher import Watcher

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACE = "warren-system"


class World:
    """A cluster with the office's Mesh, and a clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = START
        self.cluster = FakeCluster(example("office/mesh.yaml"), _secret("join"))
        controls = ControlClients(self.cluster)
        self.context = Context(
            OperatorConfig(IMAGES),
            self.cluster,
            controls,
            Watcher(controls, lambda *_: None),
            lambda: self.now,
            lambda *_: None,
        )

    async def look(self) -> float | None:
        return await look_at_mesh(self.context, NAMESPACE, "office")

    def agents_run(self) -> None:
        counts = {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberReady": 1}
        status = {"observedGeneration": 1, **counts}
        self.cluster.set_status(Kind.DAEMON_SET, "office-agent", status, NAMESPACE)
        self.cluster.put(_pod("office-agent-x", "agent"))

    def delete(self) -> None:
        self.cluster.mark_deleted(Kind.MESH, NAMESPACE, "office", self.now)

    def pods_go(self) -> None:
        for name in self.cluster.names(Kind.POD):
            self.cluster.mark_deleted(Kind.POD, NAMESPACE, name)

    def hosts_are_clean(self) -> None:
        status = {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberReady": 1}
        self.cluster.set_status(Kind.DAEMON_SET, "office-cleanup", status, NAMESPACE)

    @property
    def daemon_sets(self) -> list[str]:
        return self.cluster.names(Kind.DAEMON_SET)

    @property
    def is_gone(self) -> bool:
        return self.cluster.names(Kind.MESH) == []


def _secret(name: str) -> dict[str, Any]:
    data = {"key": "eA==", "ca.crt": "eA=="}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": data,
    }


def _pod(name: str, component: str) -> dict[str, Any]:
    labels = {
        "warren.dev/mesh": "office",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/name": "warren",
    }
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "office-node"}}
