"""Map requests: the long poll of a node with its stream of changes, and the reports in between."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from warren_control.differences import worth_storing
from warren_control.hub import KEEP_ALIVE_SECONDS, Hub
from warren_control.metrics import ControlMetrics
from warren_control.model import AuthKey, NamesOfOthers, Node, Snapshot
from warren_control.presence import Presence
from warren_control.reports import after_lite_update, after_poll
from warren_control.store import Store
from warren_control.transport.exchange import Exchange
from warren_control.transport.follower import Follower
from warren_control.transport.maps import Maps
from warren_wire.control.messages import MapRequest

Report = Callable[[Node, MapRequest, AuthKey | None, NamesOfOthers], Node]

_JSON: Final = (("content-type", "application/json"),)


class Polls:
    """Serves `/machine/map`."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        maps: Maps,
        presence: Presence,
        clock: Callable[[], datetime],
        metrics: ControlMetrics,
    ) -> None:
        self._store = store
        self._hub = hub
        self._maps = maps
        self._presence = presence
        self._clock = clock
        self._metrics = metrics

    def serve(self, exchange: Exchange, request: MapRequest) -> Awaitable[None]:
        """What answers the request; a poll is answered for as long as it stays open."""
        node = self._store.snapshot.node_by_key(request.node_key)
        if node is None or node.machine_key != exchange.machine:
            return self._unknown(exchange, request)
        if request.stream and not request.read_only:
            return self._poll(exchange, request, node.id)
        return self._answer(exchange, request, node)

    async def _answer(self, exchange: Exchange, request: MapRequest, node: Node) -> None:
        if not request.read_only:
            await self._report(node, request)
        if request.omit_peers and not request.read_only:
            exchange.reply(200)
        else:
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

    async def _poll(self, exchange: Exchange, request: MapRequest, number: int) -> None:
        key, compress = request.node_key, _compressed(request)
        # Opened before the first map is built, so that nothing that happens meanwhile is missed.
        stream = self._hub.open(number)
        self._presence.arrived(number)
        self._metrics.streams.set(self._hub.connected)
        try:
            await self._arrived(number, request)
            # The poll lasts for days; its request, with all that the host says of itself, need not.
            del request
            exchange.responder.respond(200, _JSON, b"", end=False)
            node = self._store.snapshot.nodes.get(number)
            if node is not None:
                stream.forget_pending()
                await exchange.responder.write(await self._maps.full(node, compress))
                del node
                stream.attach(Follower(self._store, self._maps, exchange.responder, stream, compress))
                await stream.ended()
            removed = self._store.snapshot.removed.get(key)
            if removed is not None:
                await exchange.responder.write(self._maps.logged_out(removed, compress))
        finally:
            if self._hub.leave(stream) or not self._hub.is_connected(number):
                self._presence.left(number)
            self._metrics.streams.set(self._hub.connected)

    async def _arrived(self, number: int, request: MapRequest) -> None:
        async with self._store.writing() as writer:
            current = writer.snapshot.nodes.get(number)
            if current is not None:
                reported = self._reported(current, request, writer.snapshot, after_poll)
                online = dataclasses.replace(reported, online=True, last_seen=self._clock())
                await writer.put(online, durable=False, dirty=worth_storing(current, reported))

    async def _once(self, exchange: Exchange, request: MapRequest, number: int) -> None:
        exchange.responder.respond(200, _JSON, b"", end=False)
        snapshot, compress = self._store.snapshot, _compressed(request)
        if (node := snapshot.nodes.get(number)) is not None:
            await exchange.responder.write(await self._maps.full(node, compress))
        elif (removed := snapshot.removed.get(request.node_key)) is not None:
            await exchange.responder.write(self._maps.logged_out(removed, compress))
        exchange.responder.finish()

    async def _unknown(self, exchange: Exchange, request: MapRequest) -> None:
        """A deleted node goes on polling until it is told that its key has expired."""
        removed = self._store.snapshot.removed.get(request.node_key)
        if removed is None or removed.machine_key != exchange.machine or not request.stream:
            exchange.refuse(404, "node not found")
            return
        compress = _compressed(request)
        exchange.responder.respond(200, _JSON, b"", end=False)
        await exchange.responder.write(self._maps.logged_out(removed, compress))
        # Held open: a stream that ends at once is asked for again at once.
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS)
            await exchange.responder.write(self._maps.keep_alive(compress))


def _compressed(request: MapRequest) -> bool:
    return request.compress == "zstd"
