"""How long a busy TCP connection of two stock clients stands still while their relays and addresses change.

Each turn is one round of `relay_story`; the clients are of the newest release and UDP is blocked.
"""

from __future__ import annotations

import statistics
from typing import Final

from warren_bench.frame import Row, row
from warren_lab import tools
from warren_lab.net import Network
from warren_lab.run import Run
from warren_lab.scenario.relay_story import relay_story
from warren_lab.scenario.relays import RelayLab, topology

RELEASE: Final = "newest"


def rows(runs: int) -> list[Row]:
    toolbox = tools.ensure((RELEASE,))
    stalls: dict[str, list[float]] = {}
    with Run() as run, Network(topology(), run.prefix) as network:
        lab = RelayLab(run, network)
        with relay_story(lab, toolbox, RELEASE) as story:
            for _ in range(runs):
                for event in story.round():
                    stalls.setdefault(event.what, []).append(event.stall_seconds)
            blocks = story.exchange.blocks
    found = []
    for what, seconds in stalls.items():
        found.append(row(f"{what}: median of {runs}", statistics.median(seconds), "s"))
        found.append(row(f"{what}: longest", max(seconds), "s"))
    return [*found, row("blocks of 4 KiB that came back, in order", blocks, "blocks")]
