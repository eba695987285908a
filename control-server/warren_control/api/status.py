"""`/api/v1/status` and the stream of revisions at `/api/v1/events`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final, NoReturn

import msgspec
from aiohttp import web

from warren_control.allocation import Pools
from warren_control.api.access import Need, operation
from warren_control.api.problems import json_response
from warren_control.hub import Hub
from warren_control.policies.keeper import PolicyKeeper
from warren_control.policies.versions import Source
from warren_control.store import Store
from warren_control.transport.registering import Failure, Registrar
from warren_wire import __version__

EVENT_GATHER_SECONDS: Final = 0.1
EVENT_KEEP_ALIVE_SECONDS: Final = 15.0


class AddressRanges(msgspec.Struct):
    """The ranges that nodes get addresses of; null: none of that family."""

    v4: str | None
    v6: str | None


class PolicyState(msgspec.Struct):
    """The policy in force; `alarm` says why it is not the one that should be."""

    version: int
    source: Source
    alarm: str


class Status(msgspec.Struct):
    """How the server is."""

    version: str
    revision: int
    started: datetime
    nodes: int
    online: int
    server_url: str
    base_domain: str
    addresses: AddressRanges
    policy: PolicyState
    registrations: dict[str, int]
    """By result, since the start."""
    recent_failures: tuple[Failure, ...]


class StatusApi:
    """What the server is and how it fares."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        registrar: Registrar,
        policies: PolicyKeeper,
        pools: Pools,
        server_url: str,
        base_domain: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._hub = hub
        self._registrar = registrar
        self._policies = policies
        self._pools = pools
        self._server_url = server_url
        self._base_domain = base_domain
        self._clock = clock
        self._started = clock()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/status", self.status), web.get("/api/v1/events", self.events)]

    @operation(Need.READ, Status)
    async def status(self, request: web.Request) -> web.Response:
        """How the server is."""
        snapshot = self._store.snapshot
        online = Counter(node.online for node in snapshot.nodes.values())
        v4, v6 = (str(pool) if pool is not None else None for pool in (self._pools.v4, self._pools.v6))
        return json_response(
            Status(
                version=__version__,
                revision=snapshot.revision,
                started=self._started,
                nodes=len(snapshot.nodes),
                online=online[True],
                server_url=self._server_url,
                base_domain=self._base_domain,
                addresses=AddressRanges(v4, v6),
                policy=PolicyState(
                    self._policies.current.version, self._policies.current.source, self._policies.alarm
                ),
                registrations={result.value: count for result, count in self._registrar.results.items()},
                recent_failures=tuple(self._registrar.failures),
            )
        )

    @operation(Need.READ, media="text/event-stream")
    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the revision at once, then after each burst of changes."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        try:
            await self._tell_revisions(response)
        except ConnectionResetError:
            # The one who listened has gone, which is how every such stream ends.
            return response

    async def _tell_revisions(self, response: web.StreamResponse) -> NoReturn:
        told = -1
        while True:
            changed = asyncio.ensure_future(self._hub.changed())
            try:
                revision = self._store.snapshot.revision
                if revision != told:
                    told = revision
                    await response.write(b"data: " + msgspec.json.encode({"revision": revision}) + b"\n\n")
                async with asyncio.timeout(EVENT_KEEP_ALIVE_SECONDS):
                    await changed
                await asyncio.sleep(EVENT_GATHER_SECONDS)
            except TimeoutError:
                await response.write(b": keep-alive\n\n")
            finally:
                changed.cancel()
