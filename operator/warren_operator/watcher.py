"""Follows the change streams of control servers, one task a managed Mesh, and pokes for each change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from warren_operator.control_clients import ControlClients
from warren_operator.errors import OperatorError
from warren_operator.resources.mesh import Managed, Mesh
from warren_runtime.backoff import Backoff

logger = logging.getLogger(__name__)

# Changes come in bursts: one look for all of a burst.
GATHER_SECONDS: Final = 0.5

Name = tuple[str, str]


class Watcher:
    """`follow` and `leave` may be called at any time and any number of times; `run` owns the tasks."""

    def __init__(self, controls: ControlClients, changed: Callable[[Name, float], None]) -> None:
        self._controls = controls
        self._changed = changed
        self._meshes: dict[Name, tuple[Mesh, Managed]] = {}
        self._tasks: dict[Name, asyncio.Task[None]] = {}
        self._wanted = asyncio.Event()

    def follow(self, mesh: Mesh, managed: Managed) -> None:
        self._meshes[(mesh.namespace, mesh.name)] = (mesh, managed)
        self._wanted.set()

    def leave(self, namespace: str, name: str) -> None:
        self._meshes.pop((namespace, name), None)
        self._wanted.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                for name in [name for name in self._tasks if name not in self._meshes]:
                    self._tasks.pop(name).cancel()
                for name in self._meshes:
                    if name not in self._tasks:
                        self._tasks[name] = group.create_task(self._follow(name), name=f"follow {name}")

    async def _follow(self, name: Name) -> None:
        backoff = Backoff(1.0, 30.0)
        while True:
            known = self._meshes.get(name)
            if known is None:
                return
            try:
                api = await self._controls.of(*known)
                async for _ in api.revisions():
                    backoff.reset()
                    self._changed(name, GATHER_SECONDS)
            except OperatorError as error:
                logger.debug("change stream ended", extra={"mesh": "/".join(name), "reason": str(error)})
            await asyncio.sleep(backoff.next_delay_seconds())
