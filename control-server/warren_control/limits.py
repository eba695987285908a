"""How many wrong keys an address may show. Pure: the time is an argument. Bounded, whoever asks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

# A stock client shows a wrong key four times within 130 ms and slows down then.
BURST: Final = 30
REFILL_SECONDS: Final = 2.0
MAX_SOURCES: Final = 10_000


class FailureLimit:
    """A bucket of tries for each address; one try comes back every `REFILL_SECONDS`."""

    def __init__(self) -> None:
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def exhausted(self, source: str, now: float) -> bool:
        """Whether the address has to wait."""
        return self._level(source, now) > BURST - 1

    def failed(self, source: str, now: float) -> None:
        """Counts a failure."""
        level = min(self._level(source, now) + 1, BURST)
        self._spent[source] = (level, now)
        self._spent.move_to_end(source)
        if len(self._spent) > MAX_SOURCES:
            self._spent.popitem(last=False)

    def _level(self, source: str, now: float) -> float:
        level, at = self._spent.get(source, (0.0, now))
        return max(0.0, level - (now - at) / REFILL_SECONDS)
