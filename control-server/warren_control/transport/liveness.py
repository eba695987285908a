"""Which connections are still alive: one look each second at all of them.

No connection holds a task or a timer for it, so thousands of idle clients cost a short loop.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

TICK_SECONDS: Final = 1.0
PING_SECONDS: Final = 6.0
DEAD_SECONDS: Final = 14.0
STALL_SECONDS: Final = 60.0
# Others have their turn at least this often while many are looked at.
_AT_A_STRETCH: Final = 200


class Watched(Protocol):
    """A connection that knows what the passing of time means to it."""

    def look(self, now: float) -> None:
        """Called about once a second with the loop's time."""
        ...


class Liveness:
    """The open connections."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, one: Watched) -> None:
        self._watched.add(one)

    def discard(self, one: Watched) -> None:
        self._watched.discard(one)

    async def run(self) -> None:
        """Looks for as long as it runs."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for number, one in enumerate(tuple(self._watched), 1):
                one.look(loop.time())
                if number % _AT_A_STRETCH == 0:
                    await asyncio.sleep(0)
