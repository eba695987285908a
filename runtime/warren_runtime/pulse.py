"""One timer for something that each of many members does about once a minute.

A timer of its own for each would be the largest part of what an idle client costs a relay.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final, Protocol

TICKS: Final = 60
"""Beats are this fraction of the interval exact."""


class Beating(Protocol):
    """A member; `beat_at` is the pulse's own note of when it is due, 0 while it is no member."""

    beat_at: int

    def beat(self) -> None: ...


class Pulse:
    """Calls `beat` of each member once, `seconds` and at random up to `jitter` after it was added."""

    def __init__(self, seconds: float, jitter: float) -> None:
        self._seconds = seconds
        self._jitter = jitter
        self._tick = seconds / TICKS
        self._due: dict[int, set[Beating]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, member: Beating) -> None:
        """Jitter keeps thousands that came together from being served in one burst."""
        delay = self._seconds + random.random() * self._jitter  # noqa: S311
        member.beat_at = self._tick_at(delay) + 1
        self._due.setdefault(member.beat_at, set()).add(member)
        if self._timer is None:
            self._arm()

    def discard(self, member: Beating) -> None:
        """It is not called any more; harmless when it is no member."""
        members = self._due.get(member.beat_at)
        if members is not None:
            members.discard(member)
            if not members:
                del self._due[member.beat_at]
        member.beat_at = 0

    def _tick_at(self, delay: float) -> int:
        return int((asyncio.get_running_loop().time() + delay) / self._tick)

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._run)

    def _run(self) -> None:
        now = self._tick_at(0.0)
        for at in [at for at in self._due if at <= now]:
            for member in self._due.pop(at):
                member.beat_at = 0
                member.beat()
        self._timer = None
        if self._due:
            self._arm()
