"""Where people and probes ask the running agent: its Unix socket and its health port.

Opened beside the work, not before it: the library of both takes longer to load than joining a mesh takes.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Final

from warren_agent.config import Config
from warren_agent.errors import SetupError

_LIBRARIES: Final = ("warren_agent.local_api", "warren_runtime.health")


class Doors:
    """`open` once, `close` whatever became of it."""

    def __init__(self, config: Config, answers: object, not_ready: Callable[[], list[str]]) -> None:
        self._config = config
        self._answers = answers
        self._not_ready = not_ready
        self._closers: list[Callable[[], Awaitable[None]]] = []

    async def open(self) -> None:
        """Raises `SetupError` where somebody else is at the socket or the port."""
        for name in _LIBRARIES:
            await asyncio.to_thread(importlib.import_module, name)
        from warren_agent.local_api import LocalApi
        from warren_runtime.health import serve_health

        api = LocalApi(self._config.socket, self._answers)  # type: ignore[arg-type]
        await api.start()
        self._closers.append(api.close)
        listen = self._config.health_listen
        if listen is None:
            return
        try:
            health = await serve_health(listen, self._not_ready)
        except OSError as error:
            where = f"cannot listen at {listen}: {error.strerror}"
            raise SetupError(f"{where}; set health_listen to another port, or 'off'") from error
        self._closers.append(health.close)

    async def close(self) -> None:
        while self._closers:
            await self._closers.pop()()
