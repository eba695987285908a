"""What waits for one client of a relay, bounded by bytes and shared fairly between its senders.

Path discovery has a queue of its own, so that it is not stuck behind bulk data. A full queue drops the oldest
packet of the sender that fills it most: for a tunnel the newest is worth most, and a flood harms only itself.
"""

from __future__ import annotations

from collections import deque
from typing import Final

BULK_BYTES: Final = 512 * 1024
"""Stock relays keep 32 packets, less than one burst of a fast sender, which bounds the throughput of TCP."""
DISCO_BYTES: Final = 32 * 1024
LINK_BYTES: Final = 4 * 1024 * 1024
"""To another relay of the region, which stands for many receivers."""
_QUANTUM_BYTES: Final = 4096
"""What one sender gets before it is the next one's turn, when not everything fits."""


class _Flow:
    """The frames of one sender, oldest first."""

    __slots__ = ("frames", "size_bytes")

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.size_bytes = 0


class FairQueue:
    """Encoded frames by sender; the order is kept within each sender."""

    __slots__ = ("_flows", "_frames", "_limit", "size_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._flows: dict[bytes, _Flow] = {}
        self._limit = limit_bytes
        self._frames = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return self._frames

    def put(self, source: bytes, frames: list[bytes], size: int) -> int:
        """Append frames of `source`, `size` bytes together; how many of all had to go for them."""
        flow = self._flows.get(source)
        if flow is None:
            flow = self._flows[source] = _Flow()
        flow.frames.extend(frames)
        flow.size_bytes += size
        self.size_bytes += size
        self._frames += len(frames)
        if self.size_bytes <= self._limit:
            return 0
        dropped = 0
        while self.size_bytes > self._limit and self._frames > 1:
            self._drop_oldest(self._fullest(flow, source))
            dropped += 1
        return dropped

    def take(self, max_bytes: int) -> list[bytes]:
        """The oldest frames of every sender in turn, up to and including the one that reaches `max_bytes`."""
        if self.size_bytes <= max_bytes:
            return self._take_all()
        taken: list[bytes] = []
        while self._flows and max_bytes > 0:
            source, flow = next(iter(self._flows.items()))
            share = min(_QUANTUM_BYTES, max_bytes)
            while flow.frames and share > 0:
                frame = flow.frames.popleft()
                size = len(frame)
                flow.size_bytes -= size
                self.size_bytes -= size
                self._frames -= 1
                share -= size
                max_bytes -= size
                taken.append(frame)
            # Its turn is over: to the end of the line, or out of it.
            del self._flows[source]
            if flow.frames:
                self._flows[source] = flow
        return taken

    def _take_all(self) -> list[bytes]:
        taken: list[bytes] = []
        for flow in self._flows.values():
            taken.extend(flow.frames)
        self._flows.clear()
        self.size_bytes = self._frames = 0
        return taken

    def _fullest(self, own: _Flow, source: bytes) -> bytes:
        """The sender to drop from. A flood is over its even share at once and pays without a search."""
        if own.size_bytes * len(self._flows) > self.size_bytes and len(own.frames) > 1:
            return source
        return max(self._flows, key=lambda each: self._flows[each].size_bytes)

    def _drop_oldest(self, source: bytes) -> None:
        flow = self._flows[source]
        size = len(flow.frames.popleft())
        flow.size_bytes -= size
        self.size_bytes -= size
        self._frames -= 1
        if not flow.frames:
            del self._flows[source]
