"""What the engine remembers about each peer for people: when its path changed and why, and what relays
carried."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from warren_agent.paths.actions import PathChanged
from warren_agent.paths.values import PathChange

HISTORY_ENTRIES: Final = 50


@dataclass(slots=True)
class PeerRecord:
    """One peer's counters and history."""

    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    relay_rx_packets: int = 0
    relay_tx_packets: int = 0
    relay_rx_bytes: int = 0
    relay_tx_bytes: int = 0
    """Of WireGuard alone, without disco."""
    history: deque[PathChange] = field(default_factory=lambda: deque(maxlen=HISTORY_ENTRIES))

    def changed(self, event: PathChanged) -> None:
        self.since = datetime.now(UTC)
        self.history.append(PathChange(self.since, event.path, event.endpoint, event.reason))
