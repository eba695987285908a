"""The node agent: pairs of hosts, ours, stock and one of each, through the same two easy NATs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from warren_bench import agent_peers, frame
from warren_bench.frame import Row
from warren_bench.pair_life import (
    BROKEN,
    COLD,
    CUT,
    DIRECT,
    RELAYED_THROUGHPUT,
    THROUGHPUT,
    UNITS,
    Speaker,
    measure,
)
from warren_bench.pairs import Lab, Pair
from warren_lab import preflight, tools
from warren_lab.errors import LabError
from warren_lab.scenario.nodes import Side
from warren_lab.tools import Printer

NEEDS: Final = ("network", "bench")


@dataclass(frozen=True, slots=True)
class Work:
    """One row: a figure of a pair against the same figure of the stock pair. `name` says which pair."""

    figure: str
    name: str
    goal: str | None
    peer_name: str = "tailscaled"


OURS: Final = (
    Work(THROUGHPUT, "ours", ">= 1.1"),
    Work(RELAYED_THROUGHPUT, "ours, our relay", ">= 3.0", "derper"),
    Work(COLD, "ours", "<= 1 s"),
    Work(DIRECT, "ours", "<= 1.5 s"),
    Work(CUT, "ours", "<= 2 s"),
    Work(BROKEN, "ours", "<= 0 connections"),
)
MIXED: Final = (
    Work(THROUGHPUT, "ours to stock", None),
    Work(RELAYED_THROUGHPUT, "ours to stock, derper", ">= 1.0", "derper"),
    # Half a second is the spacing of what either side looks at.
    Work(CUT, "ours to stock", "<= 1.1"),
    Work(BROKEN, "ours to stock", "<= 0 connections"),
)


def rows(runs: int) -> list[Row]:
    """`runs` lives of each pair, in turns. Raises `LabError`."""
    if problems := preflight.ensure(NEEDS):
        raise LabError("; ".join(str(problem) for problem in problems))
    toolbox = tools.ensure(("wireguard", "peers"), Printer())
    say = Speaker()
    say(f"load of the machine before the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with Lab(toolbox) as lab:
        numbers = itertools.count(1)

        def life(near: Side, far: Side) -> Mapping[str, float]:
            pair = Pair(lab, near, far, next(numbers))
            return measure(lab, pair, say.about(f"{near.value} to {far.value}"))

        ours, mixed, stock = frame.alternate_many(
            runs,
            lambda: life(Side.OURS, Side.OURS),
            lambda: life(Side.OURS, Side.STOCK),
            lambda: life(Side.STOCK, Side.STOCK),
        )
    say(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    say("a thousand peers")
    return [*compared(OURS, ours, stock), *compared(MIXED, mixed, stock), *agent_peers.rows()]


def compared(works: tuple[Work, ...], figures: Mapping[str, float], stock: Mapping[str, float]) -> list[Row]:
    """One pair's medians against the stock pair's."""
    return [
        frame.row(
            f"{work.figure}: {work.name}",
            figures[work.figure],
            UNITS[work.figure],
            peer=stock[work.figure],
            peer_name=work.peer_name,
            goal=work.goal,
        )
        for work in works
    ]
