"""Processor time of the programs in some namespaces: what a busy machine distorts less than a rate."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from warren_lab.net import namespaces

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Usage:
    """A reading. Programs that start or end after it are left out of the difference."""

    def __init__(self, seconds: dict[int, float], names: tuple[str, ...]) -> None:
        self._seconds = seconds
        self._names = names

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        """What the programs in these namespaces have used so far."""
        kept = tuple(names)
        pids = [pid for name in kept for pid in namespaces.processes(name)]
        return cls({pid: used for pid in pids if (used := _seconds_of(pid)) is not None}, kept)

    def since(self) -> float:
        """Seconds that they have used since this reading."""
        now = type(self).of(self._names)._seconds
        return sum(used - self._seconds[pid] for pid, used in now.items() if pid in self._seconds)


def _seconds_of(pid: int) -> float | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return ticks_of(text) / TICKS_PER_SECOND


def ticks_of(stat: str) -> int:
    """User and system time in a line of /proc/PID/stat."""
    # The name in parentheses may hold spaces, so count from its end.
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
