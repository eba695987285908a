"""The agent's Unix socket, for `warren-agent status`, `ping`, `netcheck` and `down`. HTTP with JSON."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from aiohttp import web

from warren_agent.errors import SetupError
from warren_agent.local_client import RequestError, is_served
from warren_agent.paths.values import PingKind

SOCKET_MODE: Final = 0o660
_MAX_BODY_BYTES: Final = 4096


class Answers(Protocol):
    """What the agent tells about itself."""

    async def status(self) -> Mapping[str, Any]: ...

    async def ping(self, peer: str, kind: PingKind) -> Mapping[str, Any]: ...

    async def netcheck(self) -> Mapping[str, Any]: ...

    def down(self) -> None: ...


def _app(answers: Answers) -> web.Application:
    def route(
        answer: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]],
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            try:
                question = await request.json() if request.can_read_body else {}
            except (ValueError, RecursionError):
                question = None
            if not isinstance(question, dict):
                return web.json_response({"error": "a JSON object is expected"}, status=400)
            try:
                return web.json_response(dict(await answer(question)))
            except RequestError as error:
                return web.json_response({"error": str(error)}, status=422)

        return handle

    async def status(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return await answers.status()

    async def ping(question: Mapping[str, Any]) -> Mapping[str, Any]:
        peer = question.get("peer")
        if not isinstance(peer, str):
            raise RequestError("peer: a name or an address is expected")
        try:
            kind = PingKind(question.get("kind", PingKind.DISCO.value))
        except ValueError:
            raise RequestError(f"kind: {', '.join(kind.value for kind in PingKind)} is expected") from None
        return await answers.ping(peer, kind)

    async def netcheck(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return await answers.netcheck()

    async def down(_: Mapping[str, Any]) -> Mapping[str, Any]:
        answers.down()
        return {}

    app = web.Application(client_max_size=_MAX_BODY_BYTES)
    app.router.add_get("/status", route(status))
    app.router.add_post("/ping", route(ping))
    app.router.add_post("/netcheck", route(netcheck))
    app.router.add_post("/down", route(down))
    return app


class LocalApi:
    def __init__(self, path: Path, answers: Answers) -> None:
        self._path = path
        self._runner = web.AppRunner(_app(answers), access_log=None, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Raises `SetupError`."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if await asyncio.to_thread(is_served, self._path):
                raise SetupError(f"another agent answers at {self._path}; stop it, or set socket")
            self._path.unlink(missing_ok=True)
            await self._runner.setup()
            await web.UnixSite(self._runner, str(self._path)).start()
            self._path.chmod(SOCKET_MODE)
        except OSError as error:
            await self._runner.cleanup()
            reason = error.strerror or str(error)
            raise SetupError(
                f"cannot listen at {self._path}: {reason}; set socket to another path"
            ) from error

    async def close(self) -> None:
        await self._runner.cleanup()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
