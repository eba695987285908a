"""The main job: the demo's own times, then a pair of hosts against stock programs in the same network."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from warren_bench import frame
from warren_bench.frame import Row
from warren_bench.pair_life import (
    BACK,
    COLD,
    CUT,
    DIRECT,
    FIRST_ANSWER,
    RELAYED_THROUGHPUT,
    RELAYED_USAGE,
    THROUGHPUT,
    UNITS,
    USAGE,
    Speaker,
    measure,
)
from warren_bench.pairs import Lab, Pair
from warren_lab import preflight, tools
from warren_lab.demo.show import Demo
from warren_lab.demo.story import Story
from warren_lab.errors import LabError
from warren_lab.scenario.nodes import Side
from warren_lab.tools import Printer

NEEDS: Final = ("network", "cluster", "images", "bench")


@dataclass(frozen=True, slots=True)
class Work:
    """What one row of the pairs compares."""

    title: str
    peer_name: str
    goal: str | None


WORK: Final = (
    Work(FIRST_ANSWER, "tailscaled", "<= 1.0"),
    Work(DIRECT, "tailscaled", "<= 1.0"),
    Work(COLD, "tailscaled", None),
    Work(THROUGHPUT, "tailscaled", ">= 1.0"),
    Work(USAGE, "tailscaled", None),
    Work(RELAYED_THROUGHPUT, "derper", ">= 1.0"),
    Work(RELAYED_USAGE, "derper", None),
    Work(CUT, "tailscaled", None),
    Work(BACK, "tailscaled", None),
)
DEMO_TIMES: Final = {
    "home_ready": "demo: first cluster's Mesh from `kubectl apply` to Ready",
    "registered": "demo: second cluster's Mesh from `kubectl apply` to Ready",
    "first_answer": "demo: first page between pods of two clusters, relayed",
    "direct": "demo: from the first relayed packet to a direct path",
    "relayed_after_udp_cut": "demo: from UDP cut until a TCP stream goes on",
    "direct_again": "demo: from UDP back to a direct path",
    "longest_gap_on_the_way_back": "demo: longest gap of the stream meanwhile",
    "stock_client_up": "demo: `tailscale up` of a stock client",
    "deleted_office": "demo: second cluster's Mesh deleted",
    "deleted_home": "demo: first cluster's Mesh deleted",
}
"""Names of the demo's times, and what a row calls them."""


def rows(runs: int) -> list[Row]:
    """Everything, once through the demo and `runs` times through each pair. Raises `LabError`."""
    if problems := preflight.ensure(NEEDS):
        raise LabError("; ".join(str(problem) for problem in problems))
    toolbox = tools.ensure((*tools.DEFAULT_GROUPS, "peers"), Printer())
    say = Speaker()
    say(f"load of the machine before the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    demo = Demo(Story())
    demo.run(keep=False)
    with Lab(toolbox) as lab:
        numbers = itertools.count(1)
        ours, stock = frame.alternate_many(
            runs,
            lambda: measure(lab, Pair(lab, Side.OURS, Side.OURS, next(numbers)), say.about("warren")),
            lambda: measure(lab, Pair(lab, Side.STOCK, Side.STOCK, next(numbers)), say.about("tailscaled")),
        )
    say(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    return [*demo_rows(demo.facts.times), *pair_rows(ours, stock)]


def demo_rows(times: Mapping[str, float]) -> list[Row]:
    """The demo's times that were taken."""
    return [frame.row(work, times[name], "s") for name, work in DEMO_TIMES.items() if name in times]


def pair_rows(ours: Mapping[str, float], stock: Mapping[str, float]) -> list[Row]:
    """Our pair's medians against the stock pair's."""
    return [
        frame.row(
            work.title,
            ours[work.title],
            UNITS[work.title],
            peer=stock[work.title],
            peer_name=work.peer_name,
            goal=work.goal,
        )
        for work in WORK
    ]
