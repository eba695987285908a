"""Who is connected, and what each of them has yet to be told.

The first change after a quiet time is offered to every stream at once; what follows is gathered for a moment,
so that a burst is one message and all receivers ask for the same one. A stream keeps one merged change, not a
queue: a slow receiver costs no memory and gets the newest values when it is ready.

Changes are handed over by calls, and one look each second serves all keep-alives: a stream holds no task and
no timer, so that telling a thousand receivers is a thousand writes and little else.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final, Protocol

from warren_control.changes import NOTHING, Change, merge

logger = logging.getLogger(__name__)

GATHER_SECONDS: Final = 0.025
# While changes do not end, as when everybody joins, each receiver is given this long: the work of telling all
# stays below what the machine can do, and one message carries more news.
_GATHER_SECONDS_EACH: Final = 0.00025
_UNCEASING_SECONDS: Final = 0.5
# Others have their turn at least this often while many are told.
_AT_A_STRETCH_SECONDS: Final = 0.01
TICK_SECONDS: Final = 1.0
# Stock clients give a silent stream up after 120 s.
KEEP_ALIVE_SECONDS: Final = 50.0
KEEP_ALIVE_JITTER_SECONDS: Final = 9.0


def gather_seconds(receivers: int, since_last: float) -> float:
    """How long to gather after all were told, before they are told more."""
    if since_last > _UNCEASING_SECONDS:
        return GATHER_SECONDS
    return max(GATHER_SECONDS, receivers * _GATHER_SECONDS_EACH)


class Receiver(Protocol):
    """The way to the client of a stream."""

    @property
    def idle(self) -> bool:
        """Whether the client has taken all that it was sent."""
        ...

    def when_idle(self, act: Callable[[], None]) -> None:
        """Calls `act` once, when it is idle again; a second call before that replaces the first."""
        ...

    def tell(self, change: Change) -> bool:
        """Sends what is new for it; whether that was anything."""
        ...

    def keep_alive(self) -> None:
        """Sends a sign of life."""
        ...


class MapStream:
    """The open poll of one node. Gathers until it has a receiver that is idle."""

    __slots__ = ("_ended", "_loop", "_patience", "_pending", "_receiver", "_spoke", "node")

    def __init__(self, node: int) -> None:
        self.node = node
        self._pending: Change = NOTHING
        self._receiver: Receiver | None = None
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._spoke = self._loop.time()
        # Spreads the streams that were opened together; nobody depends on it being unguessable.
        self._patience = KEEP_ALIVE_SECONDS + random.uniform(0, KEEP_ALIVE_JITTER_SECONDS)  # noqa: S311

    @property
    def closed(self) -> bool:
        return self._ended.done()

    @property
    def waiting(self) -> bool:
        """Whether there is something that its client has not been told yet."""
        return not self._pending.empty

    def forget_pending(self) -> None:
        """What is about to be sent whole contains everything that happened so far."""
        self._pending = NOTHING

    def attach(self, receiver: Receiver) -> None:
        """The receiver has had its first map; from now on it is told what changes."""
        self._receiver = receiver
        self._spoke = self._loop.time()
        self._hand_over()

    def offer(self, change: Change) -> None:
        self._pending = merge(self._pending, change)
        self._hand_over()

    def keep_alive(self, now: float) -> None:
        """Speaks if nothing was said for long."""
        receiver = self._receiver
        if receiver is not None and now - self._spoke >= self._patience and receiver.idle:
            receiver.keep_alive()
            self._spoke = now

    def close(self) -> None:
        """Nothing more is told; `ended` returns."""
        self._receiver = None
        if not self._ended.done():
            self._ended.set_result(None)

    async def ended(self) -> None:
        """Waits until the stream is closed."""
        await self._ended

    def _hand_over(self) -> None:
        receiver = self._receiver
        if receiver is None or self._pending.empty:
            return
        if not receiver.idle:
            receiver.when_idle(self._hand_over)
            return
        pending, self._pending = self._pending, NOTHING
        try:
            if receiver.tell(pending):
                self._spoke = self._loop.time()
        except Exception:
            # Whatever is wrong with one node or its message, the others are told.
            logger.exception("change not told", extra={"node": self.node})
            self.close()


class Hub:
    """All open streams, and the watchers of the revision."""

    def __init__(self, on_told: Callable[[float], None] = lambda _seconds: None) -> None:
        """`on_told` hears how long each change took from its coming to its offer to the last stream."""
        self._on_told = on_told
        self._streams: dict[int, MapStream] = {}
        self._gathered: Change = NOTHING
        self._since = 0.0
        self._has_gathered = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def connected(self) -> int:
        return len(self._streams)

    @property
    def waiting(self) -> int:
        """Streams whose clients are slower than the news."""
        return sum(stream.waiting for stream in self._streams.values())

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
            if self._gathered.empty:
                self._since = time.monotonic()
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
            since = self._since
            await self._offer(change)
            self._on_told(time.monotonic() - since)
            now = loop.time()
            since_last, told = now - told, now
            await asyncio.sleep(gather_seconds(len(self._streams), since_last))

    async def _offer(self, change: Change) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _AT_A_STRETCH_SECONDS
        # A stream that is opened meanwhile begins with a map that holds this change.
        for stream in list(self._streams.values()):
            stream.offer(change)
            if loop.time() > until:
                await asyncio.sleep(0)
                until = loop.time() + _AT_A_STRETCH_SECONDS

    async def keep_alive(self) -> None:
        """Keeps silent streams alive for as long as it runs."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = loop.time()
            for stream in list(self._streams.values()):
                stream.keep_alive(now)
