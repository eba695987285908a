"""Plays kubelet and controllers for one control server: its Deployment's files become a running process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from warren_control import config
from warren_control.app import ControlServer
from warren_control.metrics import ControlMetrics
from warren_operator.cluster import Cluster
from warren_operator.kinds import Kind, Manifest


class ControlPod:
    """`start` once the Deployment is there; `port` is where the server listens on loopback."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._folder = folder
        self._task: asyncio.Task[None] | None = None
        self._server: ControlServer | None = None
        self.port = 0

    async def start(self, deployment: str) -> None:
        manifest = await self._cluster.get(Kind.DEPLOYMENT, self._namespace, deployment)
        assert manifest is not None
        await self._mount(manifest)
        self._server = ControlServer(
            config.parse(self._config()), metrics=ControlMetrics(CollectorRegistry())
        )
        await self._server.start()
        self.port = self._server.port
        self._task = asyncio.create_task(self._server.run(), name="control server")
        await available(self._cluster, self._namespace, deployment)

    async def stop(self) -> None:
        if self._task is None or self._server is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._server.stop()
        self._task = None

    async def ca_file(self, secret: str) -> Path:
        """What a person who joins is given."""
        found = await self._cluster.get(Kind.SECRET, self._namespace, secret)
        assert found is not None
        path = self._folder / "ca.crt"
        path.write_bytes(base64.b64decode(found["data"]["ca.crt"]))
        return path

    def read(self, path: str) -> str:
        return (self._folder / "etc" / path).read_text().strip()

    async def _mount(self, manifest: Manifest) -> None:
        volumes = manifest["spec"]["template"]["spec"]["volumes"]
        sources = next(volume["projected"]["sources"] for volume in volumes if volume["name"] == "config")
        for source in sources:
            kind = Kind.SECRET if "secret" in source else Kind.CONFIG_MAP
            reference = source.get("secret") or source["configMap"]
            found = await self._cluster.get(kind, self._namespace, reference["name"])
            assert found is not None, reference["name"]
            for item in reference["items"]:
                value = found["data"][item["key"]]
                path = self._folder / "etc" / item["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(value) if kind is Kind.SECRET else value.encode())

    def _config(self) -> dict[str, Any]:
        text = (self._folder / "etc" / "config.yaml").read_text()
        text = text.replace("/etc/warren", str(self._folder / "etc"))
        settings: dict[str, Any] = yaml.safe_load(
            text.replace("/var/lib/warren", str(self._folder / "state"))
        )
        # Ports that are free here; the file names those inside a pod.
        settings["listen"] = f"127.0.0.1:{self.port}"
        settings["relay"]["stun_listen"] = "127.0.0.1:0"
        del settings["health_listen"]
        return settings


async def available(cluster: Cluster, namespace: str, deployment: str, pods: int = 1) -> None:
    """As the Deployment's controller says it once so many pods are ready."""
    found = await cluster.get(Kind.DEPLOYMENT, namespace, deployment)
    assert found is not None
    names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    counts = dict.fromkeys(names, pods)
    status = {"observedGeneration": found["metadata"]["generation"], **counts}
    await cluster.merge(Kind.DEPLOYMENT, namespace, deployment, {"status": status}, subresource="status")


async def scheduled(cluster: Cluster, namespace: str, daemon_set: str, nodes: int = 1) -> None:
    """As the DaemonSet's controller says it once every pod is ready."""
    found = await cluster.get(Kind.DAEMON_SET, namespace, daemon_set)
    assert found is not None
    names = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberReady")
    status = {
        "observedGeneration": found["metadata"]["generation"],
        "numberMisscheduled": 0,
        **dict.fromkeys(names, nodes),
    }
    await cluster.merge(Kind.DAEMON_SET, namespace, daemon_set, {"status": status}, subresource="status")


async def on_host(cluster: Cluster, namespace: str, deployment: str, index: int, address: str) -> str:
    """What scheduler and kubelet do for one pod of a Deployment on its node's network; the pod's name."""
    found = await cluster.get(Kind.DEPLOYMENT, namespace, deployment)
    assert found is not None
    template = found["spec"]["template"]
    name = f"{deployment}-{index}"
    spec = {"nodeName": f"machine-{index}", "containers": [{"name": "relay", "image": "relay:1"}]}
    metadata = {"name": name, "namespace": namespace, "labels": template["metadata"]["labels"]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    await cluster.create(Kind.POD, manifest)
    status = {"status": {"hostIP": address, "hostIPs": [{"ip": address}], "phase": "Running"}}
    await cluster.merge(Kind.POD, namespace, name, status, subresource="status")
    return name
