"""DERP as one of the relay's paths: the listener with its pages, the service, and links to other relays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from aiohttp import web
from prometheus_client.registry import Collector

from warren_runtime.derp_server import Admit, DerpService
from warren_runtime.listener import Listener
from warren_runtime.opening import ServerTls
from warren_runtime.relay_links import Peer, RelayLinks
from warren_runtime.relay_metrics import RelayCollector
from warren_runtime.tasks import supervise
from warren_wire.keys import NodePrivate

from . import metrics
from .config import Config
from .paths import PathKind
from .region import Region
from .workers import Worker

_HOME: Final = (
    "Warren relay\n\nCarries encrypted packets between nodes that cannot reach each other directly.\n"
    "It knows them by their public keys and cannot read what they send.\n"
)


class DerpPath:
    """`worker` is set when this process is one of several on the port."""

    kind = PathKind.DERP

    def __init__(
        self,
        config: Config,
        key: NodePrivate,
        admit: Admit,
        tls: ServerTls | None,
        mesh_key: str,
        worker: Worker | None,
    ) -> None:
        self._config = config
        self._worker = worker
        self.service = DerpService(key, admit, mesh_key=mesh_key, limit=config.limit)
        app = web.Application()
        self.service.routes(app)
        app.router.add_get("/", _home)
        app.router.add_get("/robots.txt", _robots)
        self._listener = Listener(app, self.service.upgrades(), tls=tls, proxies=config.proxies)
        self._siblings = Listener(web.Application(), self.service.sibling_upgrades())
        self._links: list[RelayLinks] = []
        self._sibling_links: RelayLinks | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._region: Region | None = None
        if config.mesh is not None:
            self._region = Region(self.service, config.mesh, mesh_key, secure=config.tls is not None)
            self._links.append(self._region.links)
        if worker is not None:
            workers = tuple(Peer(f"worker {other}", path=worker.socket(other)) for other in worker.others)
            self._sibling_links = RelayLinks(self.service, workers, worker.key)
            self._links.append(self._sibling_links)

    @property
    def port(self) -> int:
        return self._listener.port

    async def start(self) -> None:
        listen = self._config.listen
        if self._worker is not None:
            self.service.sibling_key = self._worker.key
            await self._siblings.start_unix(self._worker.socket(self._worker.index))
        await self._listener.start(listen.host, listen.port, reuse_port=self._worker is not None)
        if self._sibling_links is not None:
            self._tasks.append(asyncio.create_task(supervise("links to workers", self._sibling_links.run)))
        if self._region is not None:
            self._tasks.append(asyncio.create_task(supervise("links to relays", self._region.run)))

    def problems(self) -> list[str]:
        found = self._region.problems() if self._region is not None else []
        if self._worker is not None and self._sibling_links is not None:
            missing = len(self._worker.others) - self._sibling_links.up
            if missing:
                found.append(f"{missing} workers are not linked")
        return found

    def stop_accepting(self) -> None:
        self._listener.stop_accepting()
        self.service.announce_restart()

    @property
    def users(self) -> int:
        return self.service.router.clients

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.service.close()
        await self._listener.close()
        if self._worker is not None:
            await self._siblings.close()

    def collectors(self) -> Iterable[Collector]:
        yield RelayCollector(metrics.PREFIX, self.service, listener=self._listener, links=self._links)


async def _home(_: web.Request) -> web.Response:
    return web.Response(text=_HOME)


async def _robots(_: web.Request) -> web.Response:
    return web.Response(text="User-agent: *\nDisallow: /\n")
