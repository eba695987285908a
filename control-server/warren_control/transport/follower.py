"""Carries changes to the client of one open poll."""

from __future__ import annotations

from collections.abc import Callable

from warren_control.changes import Change
from warren_control.hub import MapStream
from warren_control.store import Store
from warren_control.transport.exchange import Responder
from warren_control.transport.maps import Maps


class Follower:
    """The receiver of a map stream: builds each change from the snapshot at the moment of sending."""

    __slots__ = ("_compress", "_maps", "_responder", "_store", "_stream")

    def __init__(
        self, store: Store, maps: Maps, responder: Responder, stream: MapStream, compress: bool
    ) -> None:
        self._store = store
        self._maps = maps
        self._responder = responder
        self._stream = stream
        self._compress = compress

    @property
    def idle(self) -> bool:
        return self._responder.idle

    def when_idle(self, act: Callable[[], None]) -> None:
        self._responder.when_idle(act)

    def tell(self, change: Change) -> bool:
        node = self._store.snapshot.nodes.get(self._stream.node)
        if node is None:
            # It was deleted: the poll ends with a farewell.
            self._stream.close()
            return False
        frame = self._maps.delta(node, change, self._compress)
        if frame is not None:
            self._responder.send(frame)
        return frame is not None

    def keep_alive(self) -> None:
        self._responder.send(self._maps.keep_alive(self._compress))
