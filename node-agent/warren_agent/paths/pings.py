"""Pings of ours that wait for their pong. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warren_agent.paths.timing import PING_TIMEOUT_SECONDS
from warren_wire.addresses import AddrPort

MAX_OUTSTANDING: Final = 256
"""Every candidate in each sweep of a burst; more would be a bug, the oldest goes."""


@dataclass(frozen=True, slots=True)
class SentPing:
    """A ping that waits for its pong. `destination` None: sent over a relay."""

    destination: AddrPort | None
    sent_at: float
    token: int | None = None


class SentPings:
    """One peer's pings by transaction id, oldest first."""

    __slots__ = ("_by_txid",)

    def __init__(self) -> None:
        self._by_txid: dict[bytes, SentPing] = {}

    def __len__(self) -> int:
        return len(self._by_txid)

    def add(self, txid: bytes, ping: SentPing) -> None:
        if len(self._by_txid) >= MAX_OUTSTANDING:
            del self._by_txid[next(iter(self._by_txid))]
        self._by_txid[txid] = ping

    def take(self, txid: bytes, *, relayed: bool) -> SentPing | None:
        """The ping that a pong answers, which is then answered; a pong by the other way answers none."""
        sent = self._by_txid.get(txid)
        if sent is None or (sent.destination is None) != relayed:
            return None
        del self._by_txid[txid]
        return sent

    def forget_old(self, now: float) -> None:
        while self._by_txid:
            txid, sent = next(iter(self._by_txid.items()))
            if now - sent.sent_at < PING_TIMEOUT_SECONDS:
                return
            del self._by_txid[txid]
