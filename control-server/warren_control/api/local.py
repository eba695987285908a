"""The admin API on a Unix socket: whoever may open its file is an administrator, without a token."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

from aiohttp import web

from warren_control.api.access import Access, Actor
from warren_control.api.problems import authorise
from warren_control.errors import ConfigError
from warren_control.model import Scope

MODE: Final = 0o660
MAX_BODY_BYTES: Final = 1024 * 1024


async def serve_local(
    file: Path, routes: Iterable[web.RouteDef], access: Access
) -> Callable[[], Awaitable[None]]:
    """Serves until the function that it returns is called."""
    local = Actor("local socket", Scope.ADMIN)
    app = web.Application(middlewares=[authorise(access, "/", local)], client_max_size=MAX_BODY_BYTES)
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        listening = _listening(file)
        await web.SockSite(runner, listening).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(f"admin_socket: cannot serve {file}: {error.strerror}") from error
    return runner.cleanup


def _listening(file: Path) -> socket.socket:
    file.parent.mkdir(parents=True, exist_ok=True)
    # One that a killed server left behind.
    file.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(str(file))
        # Before anybody can connect.
        file.chmod(MODE)
    except OSError:
        listening.close()
        raise
    return listening
