"""What a build tells its caller, and how a person sees it.

Values plus one printer; knows nothing of Go, pip or files.
"""

from __future__ import annotations

import enum
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

HEARTBEAT_SECONDS = 15.0


class State(enum.Enum):
    """Where a step of the build is."""

    CACHED = "cached"
    WAITING = "waiting for another build"
    RUNNING = "building"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Step:
    """One report: source ``number`` of ``count`` and the time of the whole work."""

    name: str
    programs: tuple[str, ...]
    number: int
    count: int
    state: State
    fraction: float
    step_seconds: float
    elapsed_seconds: float
    remaining_seconds: float


Progress = Callable[[Step], None]


def quiet(step: Step) -> None:
    """For callers that show nothing."""


@dataclass(slots=True)
class Printer:
    """One line a change; on a terminal the running line is rewritten in place."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    _last: float = 0.0
    _open_line: bool = False

    def __call__(self, step: Step) -> None:
        running = step.state is State.RUNNING
        terminal = self.stream.isatty()
        now = self.clock()
        if running and step.step_seconds > 0 and now - self._last < (1.0 if terminal else HEARTBEAT_SECONDS):
            return
        self._last = now
        text = describe(step)
        if terminal:
            self.stream.write(f"\r\x1b[K{text}" if self._open_line else text)
            self._open_line = running
            self.stream.write("" if running else "\n")
        else:
            self.stream.write(text + "\n")
        self.stream.flush()


def describe(step: Step) -> str:
    """``[2/6] coredns (coredns): building 41 %, 1:02 so far, about 2:10 to go``."""
    head = f"[{step.number}/{step.count}] {step.name} ({', '.join(step.programs)}): {step.state.value}"
    match step.state:
        case State.RUNNING:
            return (
                f"{head} {step.fraction:.0%}, {clock_text(step.elapsed_seconds)} so far, "
                f"about {clock_text(step.remaining_seconds)} to go"
            )
        case State.READY:
            return f"{head} after {clock_text(step.step_seconds)}"
        case _:
            return head


def clock_text(seconds: float) -> str:
    """Minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


@dataclass(slots=True)
class Estimate:
    """How long is left, from what each source should cost and how fast this machine turned out to be."""

    costs: tuple[float, ...]
    speed: float = 1.0
    """Real seconds for one expected second."""
    done_cost: float = 0.0
    done_seconds: float = 0.0

    def remaining(self, index: int, fraction: float) -> float:
        here = self.costs[index] * (1 - min(fraction, 1.0))
        return (here + sum(self.costs[index + 1 :])) * self.speed

    def finished(self, index: int, seconds: float) -> None:
        """Learn from a step that ran from start to end."""
        self.done_cost += self.costs[index]
        self.done_seconds += seconds
        # A warm compiler cache makes one step quick and says nothing about the next.
        self.speed = min(max(self.done_seconds / self.done_cost, 0.25), 8.0)
