"""What happens by the passing of time: nodes go offline, keys expire, ephemeral nodes are removed.

One look each second at an in-memory snapshot; nothing here holds a timer per node.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from warren_control.changes import Change, whole_and_self
from warren_control.errors import UnavailableError
from warren_control.hub import Hub
from warren_control.model import Node
from warren_control.store import Store

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
# A client that lost its connection is back within this time and nobody saw it leave.
OFFLINE_GRACE: Final = timedelta(seconds=10)
EPHEMERAL_INACTIVITY: Final = timedelta(seconds=120)
# How often records of nodes that were deleted long ago are dropped.
SWEEP_EVERY: Final = timedelta(hours=1)


class Presence:
    """Knows who left when; tells the store what follows from it."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        publish: Callable[[Change], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._hub = hub
        self._publish = publish
        self._clock = clock
        self.on_expired: Callable[[list[int]], None] = _ignore
        """Told the nodes whose time is over since the last look."""
        self._left: dict[int, datetime] = {}
        self._started = clock()
        self._looked = self._swept = self._started

    def arrived(self, node: int) -> None:
        self._left.pop(node, None)

    def left(self, node: int) -> None:
        """The last stream of the node ended; it counts as offline unless it comes back soon."""
        self._left.setdefault(node, self._clock())

    async def run(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self.look(self._clock())

    async def look(self, now: datetime) -> None:
        """Applies whatever is due."""
        for node, since in list(self._left.items()):
            if now - since >= OFFLINE_GRACE:
                del self._left[node]
                if not self._hub.is_connected(node):
                    await self._offline(node, since)
        self._announce_expired(now)
        if now - self._swept >= SWEEP_EVERY:
            self._swept = now
            await self._forget_removed(now)
        for idle in idle_ephemeral(self._store, self._hub, self._started, now):
            async with self._store.writing() as writer:
                current = writer.snapshot.nodes.get(idle.id)
                if current is not None and not self._hub.is_connected(idle.id):
                    try:
                        await writer.remove(current, now)
                    except UnavailableError:
                        # It stays, and is looked at again in a second.
                        break
                    logger.info("ephemeral node removed", extra={"node": current.name})

    async def _forget_removed(self, now: datetime) -> None:
        async with self._store.writing() as writer:
            try:
                await writer.forget_removed(now)
            except UnavailableError:
                # They stay until the next time.
                pass

    async def all_offline(self) -> None:
        """At the end: remembers when the connected nodes were last seen."""
        now = self._clock()
        async with self._store.writing() as writer:
            online = (node for node in writer.snapshot.nodes.values() if node.online)
            gone = [dataclasses.replace(node, online=False, last_seen=now) for node in online]
            if gone:
                await writer.put(*gone, durable=False, dirty=True)

    async def _offline(self, number: int, since: datetime) -> None:
        async with self._store.writing() as writer:
            node = writer.snapshot.nodes.get(number)
            if node is not None and node.online:
                gone = dataclasses.replace(node, online=False, last_seen=since)
                await writer.put(gone, durable=False, dirty=True)

    def _announce_expired(self, now: datetime) -> None:
        before, self._looked = self._looked, now
        due = [
            node.id
            for node in self._store.snapshot.nodes.values()
            if node.expiry is not None and before < node.expiry <= now
        ]
        if due:
            # Stock clients act on an expiry ten seconds late by themselves, and at once when told again.
            self._publish(whole_and_self(*due))
            self.on_expired(due)


def _ignore(_nodes: list[int]) -> None:
    """Nobody wants to know."""


def idle_ephemeral(store: Store, hub: Hub, started: datetime, now: datetime) -> list[Node]:
    """Ephemeral nodes not heard of for long enough, counted from the start of the server at the earliest."""
    return [
        node
        for node in store.snapshot.nodes.values()
        if node.ephemeral
        and not node.online
        and not hub.is_connected(node.id)
        and now - max(node.last_seen or node.created, started) >= EPHEMERAL_INACTIVITY
    ]
