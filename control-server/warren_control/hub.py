"""Who is connected, and what each of them has yet to be told.

The first change after a quiet time is offered to every stream at once; what follows is gathered for a moment,
so that a burst is one message and all receivers ask for the same one. A stream keeps one merged change, not a
queue: a slow receiver costs no memory and gets the newest values when it is ready.
"""

from __future__ import annotations

import asyncio
from typing import Final

from warren_control.changes import NOTHING, Change, merge

GATHER_SECONDS: Final = 0.025
# While changes do not end, as when everybody joins, each receiver is given this long: the work of telling all
# stays below what the machine can do, and one message carries more news.
_GATHER_SECONDS_EACH: Final = 0.00025
_UNCEASING_SECONDS: Final = 0.5


def gather_seconds(receivers: int, since_last: float) -> float:
    """How long to gather after all were told, before they are told more."""
    if since_last > _UNCEASING_SECONDS:
        return GATHER_SECONDS
    return max(GATHER_SECONDS, receivers * _GATHER_SECONDS_EACH)


class MapStream:
    """The open poll of one node."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.closed = False
        self._pending: Change = NOTHING
        self._wake = asyncio.Event()

    def offer(self, change: Change) -> None:
        self._pending = merge(self._pending, change)
        self._wake.set()

    def close(self) -> None:
        """Ends the stream at its next step."""
        self.closed = True
        self._wake.set()

    async def next(self, timeout_seconds: float) -> Change:
        """What happened since the last time; nothing after the timeout or when closed."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._wake.wait()
        except TimeoutError:
            return NOTHING
        self._wake.clear()
        pending, self._pending = self._pending, NOTHING
        return pending


class Hub:
    """All open streams, and the watchers of the revision."""

    def __init__(self) -> None:
        self._streams: dict[int, MapStream] = {}
        self._gathered: Change = NOTHING
        self._has_gathered = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def connected(self) -> int:
        return len(self._streams)

    def is_connected(self, node: int) -> bool:
        return node in self._streams

    def open(self, node: int) -> MapStream:
        """A stream for the node; the newest poll replaces the one before."""
        self.end(node)
        stream = self._streams[node] = MapStream(node)
        return stream

    def leave(self, stream: MapStream) -> bool:
        """The poll has ended; whether it was the node's current one."""
        stream.close()
        if self._streams.get(stream.node) is not stream:
            return False
        del self._streams[stream.node]
        return True

    def end(self, node: int) -> None:
        """Makes the node poll anew, or stop."""
        stream = self._streams.pop(node, None)
        if stream is not None:
            stream.close()

    def end_all(self) -> None:
        for node in list(self._streams):
            self.end(node)

    def publish(self, change: Change) -> None:
        """Something changed; told to the streams in a moment."""
        self._changed.set()
        self._changed = asyncio.Event()
        if not change.empty:
            self._gathered = merge(self._gathered, change)
            self._has_gathered.set()

    async def changed(self) -> None:
        """Waits for the next change of anything."""
        await self._changed.wait()

    async def run(self) -> None:
        """Hands gathered changes out for as long as it runs."""
        loop = asyncio.get_running_loop()
        told = loop.time() - _UNCEASING_SECONDS
        while True:
            await self._has_gathered.wait()
            # Told before gathering: the handshake of a node that has just joined must not reach peers that do
            # not know it yet, since WireGuard repeats it only after 5 s.
            self._has_gathered.clear()
            change, self._gathered = self._gathered, NOTHING
            for stream in self._streams.values():
                stream.offer(change)
            now = loop.time()
            since_last, told = now - told, now
            await asyncio.sleep(gather_seconds(len(self._streams), since_last))
