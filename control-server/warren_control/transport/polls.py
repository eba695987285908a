"""Map requests: the long poll of a node with its stream of changes, and the reports in between."""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable
from datetime import datetime
from typing import Final

from warren_control.changes import Change
from warren_control.differences import worth_storing
from warren_control.hub import Hub, MapStream
from warren_control.metrics import ControlMetrics, MapMessage
from warren_control.model import AuthKey, NamesOfOthers, Node, Snapshot
from warren_control.netmap.builder import NetmapBuilder
from warren_control.presence import Presence
from warren_control.reports import after_lite_update, after_poll
from warren_control.store import Store
from warren_control.transport.exchange import Exchange
from warren_control.transport.frames import Frames
from warren_wire.control.messages import MapRequest

logger = logging.getLogger(__name__)

# Stock clients give a silent stream up after 120 s.
KEEP_ALIVE_SECONDS: Final = 50.0
KEEP_ALIVE_JITTER_SECONDS: Final = 9.0

Report = Callable[[Node, MapRequest, AuthKey | None, NamesOfOthers], Node]


class Polls:
    """Serves `/machine/map`."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        builder: NetmapBuilder,
        presence: Presence,
        clock: Callable[[], datetime],
        metrics: ControlMetrics,
    ) -> None:
        self._store = store
        self._hub = hub
        self._builder = builder
        self._presence = presence
        self._clock = clock
        self._metrics = metrics
        self._frames = Frames()

    async def serve(self, exchange: Exchange, request: MapRequest) -> None:
        node = self._store.snapshot.node_by_key(request.node_key)
        if node is None or node.machine_key != exchange.machine:
            await self._unknown(exchange, request)
        elif request.stream and not request.read_only:
            await self._poll(exchange, request, node)
        elif request.omit_peers and not request.read_only:
            await self._report(node, request)
            exchange.reply(200)
        else:
            if not request.read_only:
                await self._report(node, request)
            await self._once(exchange, request, node.id)

    async def _report(self, node: Node, request: MapRequest) -> None:
        """Stores what a node says about itself; saying nothing new costs nothing."""
        if self._reported(node, request, self._store.snapshot, after_lite_update) == node:
            return
        async with self._store.writing() as writer:
            current = writer.snapshot.nodes.get(node.id)
            if current is not None:
                reported = self._reported(current, request, writer.snapshot, after_lite_update)
                await writer.put(reported, durable=False, dirty=worth_storing(current, reported))

    def _reported(self, node: Node, request: MapRequest, snapshot: Snapshot, report: Report) -> Node:
        key = snapshot.keys.get(node.auth_key_id) if node.auth_key_id is not None else None
        return report(node, request, key, snapshot.names(without=node.id))

    async def _poll(self, exchange: Exchange, request: MapRequest, node: Node) -> None:
        # Opened before the first map is built, so that nothing that happens meanwhile is missed.
        stream = self._hub.open(node.id)
        self._presence.arrived(node.id)
        self._metrics.streams.set(self._hub.connected)
        try:
            async with self._store.writing() as writer:
                current = writer.snapshot.nodes.get(node.id)
                if current is not None:
                    reported = self._reported(current, request, writer.snapshot, after_poll)
                    online = dataclasses.replace(reported, online=True, last_seen=self._clock())
                    await writer.put(online, durable=False, dirty=worth_storing(current, reported))
            exchange.responder.respond(200, [("content-type", "application/json")], b"", end=False)
            if await self._first(exchange, request, node.id):
                await self._follow(exchange, request, stream)
        finally:
            if self._hub.leave(stream) or not self._hub.is_connected(node.id):
                self._presence.left(node.id)
            self._metrics.streams.set(self._hub.connected)

    async def _follow(self, exchange: Exchange, request: MapRequest, stream: MapStream) -> None:
        while not stream.closed:
            # Spreads keep-alives of nodes that connected together; nobody depends on it being unguessable.
            jitter = random.uniform(0, KEEP_ALIVE_JITTER_SECONDS)  # noqa: S311
            change = await stream.next(KEEP_ALIVE_SECONDS + jitter)
            if stream.closed:
                break
            if not await self._send_change(exchange, request, stream, change):
                return
        if stream.node not in self._store.snapshot.nodes:
            await self._farewell(exchange, request)

    async def _send_change(
        self, exchange: Exchange, request: MapRequest, stream: MapStream, change: Change
    ) -> bool:
        compress = _compressed(request)
        if change.empty:
            await self._write(exchange, self._frames.keep_alive(compress), MapMessage.KEEP_ALIVE)
            return True
        views = self._store.views
        viewer = views.snapshot.nodes.get(stream.node)
        if viewer is None:
            await self._farewell(exchange, request)
            return False
        json = self._builder.delta(views, viewer, change, self._clock())
        if json is not None:
            await self._write(exchange, await self._frames.frame(json, compress), MapMessage.DELTA)
        return True

    async def _first(self, exchange: Exchange, request: MapRequest, number: int) -> bool:
        views = self._store.views
        node = views.snapshot.nodes.get(number)
        if node is None:
            await self._farewell(exchange, request)
            return False
        with self._metrics.map_build.time():
            json = self._builder.full(views, node, self._clock())
        await self._write(exchange, await self._frames.frame(json, _compressed(request)), MapMessage.FULL)
        return True

    async def _once(self, exchange: Exchange, request: MapRequest, number: int) -> None:
        exchange.responder.respond(200, [("content-type", "application/json")], b"", end=False)
        await self._first(exchange, request, number)
        exchange.responder.finish()

    async def _unknown(self, exchange: Exchange, request: MapRequest) -> None:
        """A deleted node goes on polling until it is told that its key has expired."""
        removed = self._store.snapshot.removed.get(request.node_key)
        if removed is None or removed.machine_key != exchange.machine or not request.stream:
            exchange.refuse(404, "node not found")
            return
        exchange.responder.respond(200, [("content-type", "application/json")], b"", end=False)
        await self._farewell(exchange, request)
        # Held open: a stream that ends at once is asked for again at once.
        stream = MapStream(removed.id)
        while True:
            await stream.next(KEEP_ALIVE_SECONDS)
            keep_alive = self._frames.keep_alive(_compressed(request))
            await self._write(exchange, keep_alive, MapMessage.KEEP_ALIVE)

    async def _farewell(self, exchange: Exchange, request: MapRequest) -> None:
        removed = self._store.snapshot.removed.get(request.node_key)
        if removed is None:
            return
        json = self._builder.logged_out(removed, self._clock())
        frame = await self._frames.frame(json, _compressed(request))
        await self._write(exchange, frame, MapMessage.LOGGED_OUT)

    async def _write(self, exchange: Exchange, frame: bytes, kind: MapMessage) -> None:
        await exchange.responder.write(frame)
        self._metrics.maps.labels(kind.value).inc()
        self._metrics.map_bytes.inc(len(frame))


def _compressed(request: MapRequest) -> bool:
    return request.compress == "zstd"
