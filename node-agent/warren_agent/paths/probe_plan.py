"""Which STUN servers one look at the network asks. Pure.

All of them at first and every five minutes; in between the nearest regions and home, which is enough to
notice a changed address and a dead home. A map of a hundred regions would otherwise cost a hundred
datagrams each twenty seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from warren_agent.paths.netcheck import StunServer

FULL_SECONDS: Final = 300.0
NEAREST_REGIONS: Final = 3


class ProbePlan:
    """Remembers when the last full look was."""

    def __init__(self) -> None:
        self._full_at: float | None = None

    def reset(self) -> None:
        """The relay map or the network changed: the next look is a full one."""
        self._full_at = None

    def choose(
        self, servers: Sequence[StunServer], *, latency: Mapping[int, float], home: int, now: float
    ) -> list[StunServer]:
        """`latency` is that of the last look, by region."""
        if self._full_at is None or now - self._full_at >= FULL_SECONDS or not latency:
            self._full_at = now
            return list(servers)
        nearest = sorted(latency, key=lambda region: (latency[region], region))[:NEAREST_REGIONS]
        chosen = {*nearest, home}
        return [server for server in servers if server.region in chosen]
