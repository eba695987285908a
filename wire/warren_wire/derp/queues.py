"""What waits for one client of a relay, bounded by bytes.

Path discovery has a queue of its own, so that it is not stuck behind bulk data. A full queue drops its oldest
packet: for a tunnel the newest is worth most.
"""

from __future__ import annotations

from collections import deque
from typing import Final

BULK_BYTES: Final = 512 * 1024
"""Stock relays keep 32 packets, less than one burst of a fast sender, which bounds the throughput of TCP."""
DISCO_BYTES: Final = 32 * 1024


class PacketQueue:
    """Encoded frames, oldest first."""

    __slots__ = ("_frames", "_limit", "size_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._frames: deque[bytes] = deque()
        self._limit = limit_bytes
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes) -> int:
        """Append; how many of the oldest had to go for it."""
        queued = self._frames
        queued.append(frame)
        self.size_bytes += len(frame)
        dropped = 0
        while self.size_bytes > self._limit and len(queued) > 1:
            self.size_bytes -= len(queued.popleft())
            dropped += 1
        return dropped

    def take(self, max_bytes: int) -> list[bytes]:
        """The oldest frames, up to and including the one that reaches `max_bytes`."""
        queued = self._frames
        if self.size_bytes <= max_bytes:
            taken = list(queued)
            queued.clear()
            self.size_bytes = 0
            return taken
        taken = []
        while queued and max_bytes > 0:
            frame = queued.popleft()
            max_bytes -= len(frame)
            self.size_bytes -= len(frame)
            taken.append(frame)
        return taken
