"""One heap for the deadlines of many machines, so that idle peers cost nothing and one timer serves all."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

K = TypeVar("K")


class Deadlines(Generic[K]):
    """Each key has at most one deadline; a changed one leaves a stale entry behind that is skipped later."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._current: dict[K, float] = {}
        self._sequence = 0

    def set(self, key: K, deadline: float | None) -> None:
        """Replace the deadline of `key`; None removes it."""
        if deadline is None:
            self._current.pop(key, None)
            return
        if self._current.get(key) == deadline:
            return
        self._current[key] = deadline
        self._sequence += 1
        heapq.heappush(self._heap, (deadline, self._sequence, key))
        if len(self._heap) > 64 + 4 * len(self._current):
            self._rebuild()

    def first(self) -> float | None:
        """The earliest deadline."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[K]:
        """Remove and return every key whose deadline has come, earliest first."""
        due: list[K] = []
        while True:
            self._drop_stale()
            if not self._heap or self._heap[0][0] > now:
                return due
            key = heapq.heappop(self._heap)[2]
            del self._current[key]
            due.append(key)

    def _drop_stale(self) -> None:
        while self._heap and self._current.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)

    def _rebuild(self) -> None:
        self._heap = [(deadline, index, key) for index, (key, deadline) in enumerate(self._current.items())]
        self._sequence = len(self._heap)
        heapq.heapify(self._heap)
