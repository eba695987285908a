"""Which relay region is home: the nearest, with enough inertia that it does not change with the weather.
Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from hashlib import blake2s
from typing import Final

from warren_wire.keys import NodePublic

HISTORY_SECONDS: Final = 305.0
"""Latencies count for this long; the best one of a region is its latency."""

KEEP_BELOW_SECONDS: Final = 0.010
KEEP_ABOVE_SHARE: Final = 2 / 3
"""Another region must be nearer by more than 10 ms and take less than two thirds of the time."""


class HomeChoice:
    """Remembers measurements and the present choice."""

    def __init__(self, node: NodePublic, home: int = 0) -> None:
        self.home = home
        self._seed = int.from_bytes(blake2s(node.raw, digest_size=8).digest(), "big")
        self._history: deque[tuple[float, dict[int, float]]] = deque(maxlen=64)

    def choose(
        self,
        measured: Mapping[int, float],
        *,
        eligible: Sequence[int],
        scores: Mapping[int, float],
        home_alive: bool,
        may_move: bool = True,
        now: float,
    ) -> int:
        """The home region after a measurement. `home_alive`: frames came from the present home just now.

        Without `may_move` peers would not learn of another home, and go on sending to the old one.
        """
        self._history.append((now, dict(measured)))
        while now - self._history[0][0] > HISTORY_SECONDS:
            self._history.popleft()
        if self.home not in eligible:
            self.home = 0
        if self.home and not may_move:
            return self.home
        best = {
            region: self._recent(region) * _score(scores, region) for region in measured if region in eligible
        }
        if not best:
            self.home = self.home or self._arbitrary(eligible)
            return self.home
        nearest = min(best, key=lambda region: (best[region], region))
        if nearest != self.home and not self._keeps(nearest, best, home_alive):
            self.home = nearest
        return self.home

    def _keeps(self, nearest: int, best: Mapping[int, float], home_alive: bool) -> bool:
        if not self.home:
            return False
        old = best.get(self.home)
        if old is None:
            return home_alive
        return old - best[nearest] < KEEP_BELOW_SECONDS or best[nearest] > old * KEEP_ABOVE_SHARE

    def _recent(self, region: int) -> float:
        return min(latencies[region] for _, latencies in self._history if region in latencies)

    def _arbitrary(self, eligible: Sequence[int]) -> int:
        """With nothing measured some region must do; the same one for the life of the key."""
        ordered = sorted(eligible)
        return ordered[self._seed % len(ordered)] if ordered else 0


def _score(scores: Mapping[int, float], region: int) -> float:
    score = scores.get(region, 0.0)
    return score if score > 0 else 1.0
