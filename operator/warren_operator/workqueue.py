"""Keys that need a look, each looked at by one task at a time.

A key poked many times while it waits is looked at once; one poked while it is being looked at is looked at
again. A look that fails comes back with back-off. Nothing depends on a poke having been seen: every look
returns when it wants the next one at the latest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from warren_operator import metrics
from warren_operator.errors import OperatorError
from warren_runtime.backoff import Backoff

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    def __init__(self, look: Callable[[K], Awaitable[float | None]], workers: int = 4) -> None:
        self._look = look
        self._slots = asyncio.Semaphore(workers)
        self._due: dict[K, float] = {}
        self._running: set[K] = set()
        self._backoffs: dict[K, Backoff] = {}
        self._changed = asyncio.Event()

    def poke(self, key: K, after_seconds: float = 0.0) -> None:
        when = asyncio.get_running_loop().time() + after_seconds
        if when < self._due.get(key, float("inf")):
            self._due[key] = when
            self._changed.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for key in self._take_due():
                    group.create_task(self._work(key), name=f"look {key}")
                await self._wait()

    def _take_due(self) -> list[K]:
        now = asyncio.get_running_loop().time()
        ready = [key for key, when in self._due.items() if when <= now and key not in self._running]
        for key in ready:
            del self._due[key]
            self._running.add(key)
        return ready

    async def _wait(self) -> None:
        waiting = [when for key, when in self._due.items() if key not in self._running]
        try:
            async with asyncio.timeout_at(min(waiting, default=None)):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _work(self, key: K) -> None:
        kind = type(key).__name__
        try:
            async with self._slots:
                again = await self._look(key)
        except OperatorError as error:
            again = self._next_try(key)
            metrics.LOOKS.labels(kind, "failed").inc()
            logger.warning("look failed", extra={"key": str(key), "reason": str(error)})
        except Exception:
            again = self._next_try(key)
            metrics.LOOKS.labels(kind, "crashed").inc()
            logger.exception("look crashed", extra={"key": str(key)})
        else:
            self._backoffs.pop(key, None)
            metrics.LOOKS.labels(kind, "done").inc()
        finally:
            self._running.discard(key)
            self._changed.set()
        if again is not None:
            self.poke(key, again)

    def _next_try(self, key: K) -> float:
        return self._backoffs.setdefault(key, Backoff(1.0, 60.0)).next_delay_seconds()
