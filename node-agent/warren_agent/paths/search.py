"""When to look for a direct path to one peer, and which of the looks also call the peer. Pure.

A search begins with a burst of sweeps, then goes on at stock's spacing as long as there is traffic. With a
direct path in use it rests, except for a look each minute at whether a slow one can be bettered.
"""

from __future__ import annotations

from warren_agent.paths.timing import (
    BURST_CALLS,
    BURST_SECONDS,
    CALLED_BURST_SECONDS,
    EAGER_FOR_SECONDS,
    EAGER_SWEEP_SECONDS,
    PROBE_SECONDS,
    SWEEP_SECONDS,
    UPGRADE_SWEEP_SECONDS,
)


class Search:
    """The schedule; sweeping and calling are the caller's."""

    __slots__ = ("_began", "_burst_began", "_burst_calls", "_called_at", "_index", "_swept_at", "sweep_at")

    def __init__(self, now: float) -> None:
        self.sweep_at: float | None = None
        self._began = now
        self._burst_began = now - CALLED_BURST_SECONDS
        self._burst_calls = True
        self._index = len(BURST_SECONDS)
        self._swept_at: float | None = None
        self._called_at: float | None = None

    def begin(self, now: float) -> None:
        """Traffic began or a path was lost: sweep at once."""
        self._began = now
        self._burst(now, calls=True)

    def join(self, now: float) -> None:
        """The peer called and was swept just now: go on with a burst that does not call back. Peers that
        never get through call each other for ever, so such bursts are rare."""
        if now - self._burst_began >= CALLED_BURST_SECONDS:
            self._burst(now, calls=False)
            self._index = 1
            self.sweep_at = now + BURST_SECONDS[1]

    def hurry(self, now: float) -> None:
        """There are new candidates: a search under way sweeps at once."""
        if self.sweep_at is not None:
            self.sweep_at = min(self.sweep_at, now)

    def end(self) -> None:
        """A direct path was found."""
        self.sweep_at = None
        self._index = len(BURST_SECONDS)

    def swept(self, now: float) -> None:
        self._swept_at = now

    def called(self, now: float) -> None:
        self._called_at = now

    def upgrade_due(self, now: float) -> bool:
        """Whether a direct path that is not good enough should be compared with others now."""
        return self._swept_at is None or now - self._swept_at >= UPGRADE_SWEEP_SECONDS

    def step(self, now: float, *, active: bool) -> bool | None:
        """A sweep is due: whether it also calls the peer, or None to end the search. Re-arms itself."""
        in_burst = self._index < len(BURST_SECONDS)
        if not in_burst and not active:
            self.sweep_at = None
            return None
        if in_burst:
            call = self._burst_calls and BURST_SECONDS[self._index] in BURST_CALLS
        else:
            call = self._called_at is None or now - self._called_at >= SWEEP_SECONDS
        self._index = min(self._index + 1, len(BURST_SECONDS))
        if self._index < len(BURST_SECONDS):
            self.sweep_at = max(self._burst_began + BURST_SECONDS[self._index], now + PROBE_SECONDS)
        else:
            eager = now - self._began < EAGER_FOR_SECONDS
            self.sweep_at = now + (EAGER_SWEEP_SECONDS if eager else SWEEP_SECONDS)
        return call and active

    def _burst(self, now: float, *, calls: bool) -> None:
        self._burst_began = now
        self._burst_calls = calls
        self._index = 0
        self.sweep_at = now
