"""How far the direct address in use is believed: trust by pongs, doubts, and when it is given up. Pure.

    none ──adopt──▶ trusted ──doubt──▶ doubted ──patience over──▶ none
                      ▲  └──6.5 s without a pong──────────────────▲
                      └──pong, or packets heard directly──┘

Stock peers know only the 6.5 s. A dead path is given up earlier here, because until then WireGuard sends
into the void: a doubt starts with a sign (heartbeat unanswered, traffic only outbound, the peer turned to
the relay), is tested with quick pings, and ends the path only if no pong and no packet came by it. Leaving
early is invisible to the peer. What keeps it from flapping: early leaving is limited per minute, and a
path that did not last waits longer each time before it may return.
"""

from __future__ import annotations

from collections import deque

from warren_agent.paths.ranking import Proven
from warren_agent.paths.timing import (
    ANSWER_SECONDS,
    DOUBT_GRACE_SECONDS,
    EARLY_LAPSE_WINDOW_SECONDS,
    EARLY_LAPSES,
    HOLD_SECONDS,
    PROBE_SECONDS,
    SHORT_SPELL_SECONDS,
    TRUST_SECONDS,
)
from warren_wire.addresses import AddrPort


class Trust:
    """The trusted address of one peer, if there is one."""

    __slots__ = (
        "_answer_due_at",
        "_doubted_at",
        "_early_lapses",
        "_hold_until",
        "_lapse_at",
        "_pong_at",
        "_probe_at",
        "_probes",
        "_short_spells",
        "_since",
        "best",
        "until",
    )

    def __init__(self) -> None:
        self.best: Proven | None = None
        self.until = 0.0
        self._since = 0.0
        self._pong_at = 0.0
        self._answer_due_at: float | None = None
        self._doubted_at: float | None = None
        self._probe_at: float | None = None
        self._probes = 0
        self._lapse_at = 0.0
        self._early_lapses: deque[float] = deque(maxlen=EARLY_LAPSES)
        self._short_spells = 0
        self._hold_until = 0.0

    @property
    def address(self) -> AddrPort | None:
        return self.best.address if self.best is not None else None

    def held_back(self, now: float) -> bool:
        """Whether a new direct path must wait because the last ones did not last."""
        return self.best is None and now < self._hold_until

    def adopt(self, proven: Proven, now: float) -> None:
        """Trust another address, or the first one."""
        if self.best is None:
            self._since = now
        self.best = proven
        self._trusted(now)

    def suppose(self, address: AddrPort, patience_seconds: float, now: float) -> None:
        """Believe in an address that WireGuard was found using, for as long as a first doubt takes."""
        self._since = now
        self.best = Proven(address, 0.0)
        self.until = now + TRUST_SECONDS
        self._pong_at = now - TRUST_SECONDS
        self.doubt(patience_seconds, now)

    def renew(self, latency_seconds: float, now: float) -> None:
        """A pong came for the address in use."""
        assert self.best is not None
        self.best = Proven(self.best.address, latency_seconds)
        self._trusted(now)

    def _trusted(self, now: float) -> None:
        self.until = now + TRUST_SECONDS
        self._pong_at = now
        self._answer_due_at = None
        self._end_doubt()

    def heard(self) -> None:
        """Authenticated packets came directly from the address in use: alive, whatever the pings say.

        They do not extend trust, since they prove only the way to us.
        """
        self._end_doubt()

    def pinged(self, now: float) -> None:
        """The address in use was pinged; the answer is expected within a second or so."""
        if self._answer_due_at is None and self.best is not None:
            self._answer_due_at = now + max(ANSWER_SECONDS, 2 * self.best.latency_seconds + 0.2)

    def doubt(self, patience_seconds: float, now: float) -> bool:
        """There is a sign that the path died. True if a ping is due at once."""
        if self.best is None or now - self._pong_at < DOUBT_GRACE_SECONDS:
            return False
        lapse_at = min(now + patience_seconds + 3 * self.best.latency_seconds, self.until)
        if self._doubted_at is not None:
            self._lapse_at = min(self._lapse_at, lapse_at)
            return False
        self._doubted_at = now
        self._lapse_at = lapse_at
        self._probe_at = now + PROBE_SECONDS
        self._probes = 1
        return True

    def in_doubt(self, now: float) -> bool:
        """Whether the doubt has lasted long enough to prefer any other address that answers."""
        return self._doubted_at is not None and now - self._doubted_at >= DOUBT_GRACE_SECONDS

    def probe_due(self, now: float) -> int:
        """Which quick ping of this doubt is due now, counted from 1; 0 if none is. Re-arms itself."""
        if self._probe_at is None or now < self._probe_at:
            return 0
        self._probe_at = now + PROBE_SECONDS
        self._probes += 1
        return self._probes

    def answer_overdue(self, now: float) -> bool:
        """Whether a ping has just become overdue; True once."""
        if self._answer_due_at is None or now < self._answer_due_at:
            return False
        self._answer_due_at = None
        return True

    def lapsed(self, now: float) -> bool:
        """Whether the path must be given up now."""
        if self.best is None:
            return False
        if now >= self.until:
            return True
        return self._doubted_at is not None and now >= self._lapse_at and self._early_allowed(now)

    def _early_allowed(self, now: float) -> bool:
        full = len(self._early_lapses) == EARLY_LAPSES
        return not full or now - self._early_lapses[0] >= EARLY_LAPSE_WINDOW_SECONDS

    def lapse(self, now: float, failed: bool) -> bool:
        """Give the path up. True if that was earlier than stock's rule. `failed` False: it was only
        unused."""
        early = now < self.until
        if early:
            self._early_lapses.append(now)
        if failed and now - self._since < SHORT_SPELL_SECONDS:
            self._hold_until = now + HOLD_SECONDS[min(self._short_spells, len(HOLD_SECONDS) - 1)]
            self._short_spells += 1
        elif failed:
            self._short_spells = 0
        self.best = None
        self._answer_due_at = None
        self._end_doubt()
        return early

    def forget(self) -> None:
        """Our own end of the path is gone; that says nothing about how long its like will last."""
        self.best = None
        self._answer_due_at = None
        self._end_doubt()

    def _end_doubt(self) -> None:
        self._doubted_at = None
        self._probe_at = None

    def next_timeout(self, now: float) -> float | None:
        """When one of the questions above may change its answer."""
        if self.best is None:
            return None
        times = [self.until]
        if self._answer_due_at is not None:
            times.append(self._answer_due_at)
        if self._probe_at is not None:
            times.append(self._probe_at)
        if self._doubted_at is not None and self._early_allowed(max(now, self._lapse_at)):
            times.append(self._lapse_at)
        return min(times)
