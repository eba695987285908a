"""Wires the operator up: kopf brings events, the work queue looks, the watcher follows control servers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, assert_never, cast

import kopf

from warren_operator import handlers
from warren_operator.cluster import Cluster
from warren_operator.config import OperatorConfig
from warren_operator.control_clients import ControlClients, Locate, by_service
from warren_operator.keys import Key, MembersKey, MeshKey, RelayKey
from warren_operator.naming import FIELD_MANAGER
from warren_operator.reconcile.context import Context
from warren_operator.reconcile.members import look_at_members
from warren_operator.reconcile.mesh import look_at_mesh
from warren_operator.reconcile.relay import look_at_relay
from warren_operator.settings import kopf_settings
from warren_operator.watcher import Watcher
from warren_operator.workqueue import WorkQueue
from warren_runtime.health import serve_health

logger = logging.getLogger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


class Operator:
    def __init__(
        self,
        config: OperatorConfig,
        cluster: Cluster,
        *,
        locate: Locate = by_service,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._controls = ControlClients(cluster, locate)
        self._queue: WorkQueue[Key] = WorkQueue(self._look)
        self._watcher = Watcher(self._controls, lambda name, after: self.poke(MembersKey(*name), after))
        self._context = Context(config, cluster, self._controls, self._watcher, clock, self.poke)
        self._listening = asyncio.Event()

    def poke(self, key: Key, after_seconds: float = 0.0) -> None:
        self._queue.poke(key, after_seconds)

    async def run(self) -> None:
        """Until a signal or cancellation stops it, or one part fails."""
        health = await serve_health(self._config.health_listen, self._not_ready)
        try:
            async with asyncio.TaskGroup() as group:
                others = [
                    group.create_task(self._queue.run(), name="queue"),
                    group.create_task(self._watcher.run(), name="watcher"),
                ]
                # kopf takes the signals that stop a process; when it has ended, all has to.
                await self._kopf()
                for task in others:
                    task.cancel()
        finally:
            await self._controls.close()
            await health.close()

    def _not_ready(self) -> list[str]:
        return [] if self._listening.is_set() else ["not yet listening to the Kubernetes API"]

    async def _kopf(self) -> None:
        """Until kopf stops. Its own runner would also cancel every task that is none of its."""
        tasks = await kopf.spawn_tasks(
            registry=handlers.registry(self.poke, self._context.config_maps),
            settings=kopf_settings(),
            standalone=True,
            # Else kopf asks for the user's name, and a container's user id has none. The type is private.
            identity=cast(Any, FIELD_MANAGER),
            clusterwide=not self._config.namespaces,
            namespaces=self._config.namespaces,
            ready_flag=self._listening,
        )
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in ended:
            task.result()

    async def _look(self, key: Key) -> float | None:
        match key:
            case MeshKey(namespace, name):
                return await look_at_mesh(self._context, namespace, name)
            case MembersKey(namespace, mesh):
                return await look_at_members(self._context, namespace, mesh)
            case RelayKey(namespace, name):
                return await look_at_relay(self._context, namespace, name)
            case _:
                assert_never(key)
