"""What to do when WireGuard uses another endpoint than we want, because it follows every authenticated
packet. Pure.

A new address is a hint worth a ping: often the peer's trust returned before ours. It is put back only when
no pong came in time, and then not given another chance at each packet.
"""

from __future__ import annotations

from enum import Enum, auto

from warren_agent.paths.timing import REASSERT_SECONDS, REFUSAL_SECONDS, ROAM_PATIENCE_SECONDS
from warren_wire.addresses import AddrPort


class Verdict(Enum):
    LEAVE = auto()
    """Nothing to do, now or yet."""
    TRY = auto()
    """A new address: ping it."""
    CORRECT = auto()
    """Give WireGuard the wanted endpoint again."""


class Roaming:
    """One peer's endpoint as WireGuard has it, against the wanted one."""

    __slots__ = ("_corrected_at", "_refused", "_refused_until", "_roamed", "_until")

    def __init__(self) -> None:
        self._roamed: AddrPort | None = None
        self._until = 0.0
        self._refused: AddrPort | None = None
        self._refused_until = 0.0
        self._corrected_at: float | None = None

    def judge(self, endpoint: AddrPort | None, wanted: AddrPort | None, now: float) -> Verdict:
        """`endpoint` is WireGuard's, None for the loopback endpoint."""
        if endpoint == wanted:
            self._roamed = None
            return Verdict.LEAVE
        if endpoint is None or (endpoint == self._refused and now < self._refused_until):
            return Verdict.CORRECT
        if endpoint != self._roamed:
            return Verdict.TRY
        if now < self._until:
            return Verdict.LEAVE
        # It carries the peer's packets but not ours.
        self._refused, self._refused_until = endpoint, now + REFUSAL_SECONDS
        self._roamed = None
        return Verdict.CORRECT

    def tried(self, endpoint: AddrPort, now: float) -> None:
        self._roamed = endpoint
        self._until = now + ROAM_PATIENCE_SECONDS

    def proven(self, address: AddrPort) -> None:
        """A pong came for it."""
        if address == self._refused:
            self._refused = None

    def settled(self) -> None:
        """The wanted endpoint changed and was given to WireGuard."""
        self._roamed = None

    def may_correct(self, now: float) -> bool:
        """Whether the last correction is long enough ago; True counts as one."""
        if self._corrected_at is not None and now - self._corrected_at < REASSERT_SECONDS:
            return False
        self._corrected_at = now
        return True

    def corrected(self, now: float) -> None:
        self._corrected_at = now
