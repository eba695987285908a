"""What waits for a person's decision. Bounded and forgotten in time, and no source pushes all others out.

Nothing here is durable: whoever waits when the server restarts asks again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar


@dataclass(slots=True)
class Waiting:
    """One that waits."""

    source: str
    """Who made it wait: where bounds are per source, this is whose bound it is."""
    since: datetime
    expires: datetime
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """Also the last part of a link; whoever knows it may see what waits, not decide it."""
    decided: asyncio.Event = field(default_factory=asyncio.Event)


W = TypeVar("W", bound=Waiting)


class WaitingRoom(Generic[W]):
    """Who waits, oldest first."""

    def __init__(self, clock: Callable[[], datetime], most: int, most_of_source: int) -> None:
        self._clock = clock
        self._most = most
        self._most_of_source = most_of_source
        self._waiting: OrderedDict[str, W] = OrderedDict()

    def __len__(self) -> int:
        self._forget_old()
        return len(self._waiting)

    def __iter__(self) -> Iterator[W]:
        self._forget_old()
        return iter(list(self._waiting.values()))

    def find(self, waiting_id: str) -> W | None:
        self._forget_old()
        return self._waiting.get(waiting_id)

    def add(self, waiting: W) -> None:
        """Lets it in; where there is no room, the oldest of its source or of the busiest source goes."""
        self._forget_old()
        of_source = Counter(one.source for one in self._waiting.values())
        if of_source[waiting.source] >= self._most_of_source:
            self._drop_oldest_of(waiting.source)
        elif len(self._waiting) >= self._most:
            self._drop_oldest_of(of_source.most_common(1)[0][0])
        self._waiting[waiting.id] = waiting

    def drop(self, waiting: W) -> None:
        """It waits no longer; whoever holds its request looks again at what it is now."""
        self._waiting.pop(waiting.id, None)
        waiting.decided.set()

    async def decided(self, waiting: W, within: float | None = None) -> bool:
        """Waits until it is decided or out of time; False: `within` seconds passed first."""
        left = max((waiting.expires - self._clock()).total_seconds(), 0)
        try:
            async with asyncio.timeout(left if within is None else min(left, within)):
                await waiting.decided.wait()
        except TimeoutError:
            if within is not None and within < left:
                return False
            self.drop(waiting)
        return True

    def _drop_oldest_of(self, source: str) -> None:
        self.drop(next(one for one in self._waiting.values() if one.source == source))

    def _forget_old(self) -> None:
        now = self._clock()
        while self._waiting and (oldest := next(iter(self._waiting.values()))).expires <= now:
            self.drop(oldest)
