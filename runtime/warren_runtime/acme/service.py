"""ACME put together for a service: what it serves at once, and what runs beside it."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from aiohttp import web

from warren_runtime.listener import Listener
from warren_runtime.opening import ServerTls
from warren_runtime.tasks import supervise
from warren_runtime.tls import ReloadingContext, TlsError

from .challenges import ChallengeFolder
from .keeper import CertificateKeeper
from .settings import AcmeSettings
from .storage import AcmeFolder

PATH: Final = "/.well-known/acme-challenge/{token}"


def prepare(settings: AcmeSettings, path: Path) -> None:
    """Make what must be there before the first process serves (`TlsError`)."""
    if importlib.util.find_spec("acme") is None:
        raise TlsError("tls.acme needs packages that are not installed: pip install 'warren[acme]'")
    try:
        AcmeFolder(path).prepare(settings.names)
    except OSError as error:
        raise TlsError(f"cannot write to {path}: {error.strerror or error}") from error


class AcmeService:
    """After `prepare`. Of several processes on one port only one is the `leader`, which orders."""

    def __init__(
        self,
        settings: AcmeSettings,
        path: Path,
        *,
        extra: Callable[[], bytes] | None = None,
        leader: bool = True,
    ) -> None:
        self._settings = settings
        folder = AcmeFolder(path)
        self._challenges = ChallengeFolder(folder.challenges)
        self._reloading = ReloadingContext(folder.certificate, folder.certificate, extra)
        self.keeper = CertificateKeeper(settings, folder, self._challenges, self._reloading.reload_if_changed)
        self._leader = leader

    @property
    def tls(self) -> ServerTls:
        return ServerTls(self._reloading.context, self._challenges)

    def notes(self) -> list[str]:
        return self.keeper.notes()

    async def start(self, stack: AsyncExitStack, *, reuse_port: bool = False) -> None:
        """Begin, once the service's own port is open; OSError if the plain port is taken."""
        listen = self._settings.http_listen
        if listen is not None:
            plain = Listener(self._plain_pages(), {})
            await plain.start(listen.host, listen.port, reuse_port=reuse_port)
            stack.push_async_callback(plain.close)
        tasks: dict[str, Callable[[], Awaitable[None]]] = {"certificate": self._reloading.watch}
        if self._leader:
            tasks["certificate orders"] = self.keeper.run
        for name, run in tasks.items():
            stack.callback(asyncio.create_task(supervise(name, run), name=name).cancel)

    def _plain_pages(self) -> web.Application:
        app = web.Application()
        app.router.add_get(PATH, self._answer)
        app.router.add_get("/{rest:.*}", self._redirect)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        text = await asyncio.to_thread(self._challenges.text, request.match_info["token"])
        if text is None:
            raise web.HTTPNotFound
        return web.Response(text=text)

    async def _redirect(self, request: web.Request) -> web.Response:
        host = request.host.partition(":")[0].lower()
        name = host if host in self._settings.names else self._settings.names[0]
        raise web.HTTPPermanentRedirect(f"https://{name}{request.path_qs}")
