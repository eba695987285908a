"""Tells what of a network map is not used: a gauge of each kind, and a line of the log when it is new."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from warren_agent import metrics
from warren_agent.allotment import Refusal
from warren_agent.member import Member

logger = logging.getLogger(__name__)

MAX_TOLD: Final = 20
"""New faults of one network map that are logged one by one; the status has all."""


class NetmapReport:
    """Remembers what was told, as every map repeats it."""

    def __init__(self) -> None:
        self._told: frozenset[str] = frozenset()

    def update(self, refusals: Sequence[Refusal], members: Sequence[Member]) -> None:
        faults = [f"{member.name}: {problem}" for member in members for problem in member.problems]
        metrics.ROUTES_REFUSED.set(len(refusals))
        metrics.NETMAP_PROBLEMS.set(len(faults))
        told, self._told = self._told, frozenset([*map(str, refusals), *faults])
        new = sorted(self._told - told)
        for reason in new[:MAX_TOLD]:
            logger.warning("part of the network map not used", extra={"reason": reason})
        if len(new) > MAX_TOLD:
            logger.warning("more parts of the network map not used", extra={"count": len(new) - MAX_TOLD})
