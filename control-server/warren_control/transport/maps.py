"""The messages of map streams as frames, ready to be sent: built from the snapshot of the moment, compressed
once where many streams send the same, and counted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from warren_control.changes import Change
from warren_control.metrics import ControlMetrics, MapMessage
from warren_control.model import Node
from warren_control.netmap.builder import NetmapBuilder
from warren_control.store import Store
from warren_control.transport.frames import Frames


class Maps:
    """Makes the frames of all streams."""

    def __init__(
        self, store: Store, builder: NetmapBuilder, clock: Callable[[], datetime], metrics: ControlMetrics
    ) -> None:
        self._store = store
        self._builder = builder
        self._clock = clock
        self._frames = Frames()
        self._seconds = metrics.map_build
        self._bytes = metrics.map_bytes
        self._counts = {kind: metrics.maps.labels(kind.value) for kind in MapMessage}

    async def full(self, node: Node, compress: bool) -> bytes:
        """The first message of a stream."""
        with self._seconds.time():
            json = self._builder.full(self._store.views, node, self._clock())
        return self._counted(MapMessage.FULL, await self._frames.once(json, compress))

    def delta(self, node: Node, change: Change, compress: bool) -> bytes | None:
        """What is new for a node, `None` if that is nothing."""
        json = self._builder.delta(self._store.views, node, change, self._clock())
        if json is None:
            return None
        return self._counted(MapMessage.DELTA, self._frames.shared(json, compress))

    def keep_alive(self, compress: bool) -> bytes:
        return self._counted(MapMessage.KEEP_ALIVE, self._frames.keep_alive(compress))

    def logged_out(self, removed: Node, compress: bool) -> bytes:
        """The last message to a node that was deleted."""
        json = self._builder.logged_out(removed, self._clock())
        return self._counted(MapMessage.LOGGED_OUT, self._frames.shared(json, compress))

    def _counted(self, kind: MapMessage, frame: bytes) -> bytes:
        self._counts[kind].inc()
        self._bytes.inc(len(frame))
        return frame
