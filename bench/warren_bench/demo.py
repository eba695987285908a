"""The main job: the demo's own times, then a pair of hosts against stock programs in the same network."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import click

from warren_bench import frame
from warren_bench.frame import Row
from warren_bench.pairs import Lab, OurPair, Pair, StockPair, wait_until
from warren_bench.usage import Usage
from warren_lab import preflight, tools
from warren_lab.demo.show import Demo
from warren_lab.demo.story import Story
from warren_lab.errors import LabError
from warren_lab.hosts import throughput_gbits
from warren_lab.scenario.probe import Probe
from warren_lab.tools import Printer

NEEDS: Final = ("network", "cluster", "images", "bench")
PATH_SECONDS: Final = 60.0
TRANSFER_SECONDS: Final = 5

FIRST_ANSWER: Final = "from `up` to the first answered ping"
DIRECT: Final = "from `up` to a direct path"
COLD: Final = "from the daemon's start to the first answered ping"
THROUGHPUT: Final = "TCP, direct through two easy NATs"
USAGE: Final = "processor time per GB, direct"
RELAYED_THROUGHPUT: Final = "TCP, relayed with UDP cut at both routers"
RELAYED_USAGE: Final = "processor time per GB, relayed, with the relay's"
CUT: Final = "from UDP cut at both routers to the next answered ping"
BACK: Final = "from UDP back to a direct path"


@dataclass(frozen=True, slots=True)
class Work:
    """What one row of the pairs compares."""

    title: str
    unit: str
    peer_name: str
    goal: str | None


WORK: Final = (
    Work(FIRST_ANSWER, "s", "tailscaled", "<= 1.0"),
    Work(DIRECT, "s", "tailscaled", "<= 1.0"),
    Work(COLD, "s", "tailscaled", None),
    Work(THROUGHPUT, "Gbit/s", "tailscaled", ">= 1.0"),
    Work(USAGE, "s/GB", "tailscaled", None),
    Work(RELAYED_THROUGHPUT, "Gbit/s", "derper", ">= 1.0"),
    Work(RELAYED_USAGE, "s/GB", "derper", None),
    Work(CUT, "s", "tailscaled", None),
    Work(BACK, "s", "tailscaled", None),
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

Say = Callable[[str], None]
Note = Callable[[str, float], None]


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
            lambda: measure(lab, OurPair(lab), say.about("warren")),
            lambda: measure(lab, StockPair(lab, next(numbers)), say.about("tailscaled")),
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
            work.unit,
            peer=stock[work.title],
            peer_name=work.peer_name,
            goal=work.goal,
        )
        for work in WORK
    ]


def measure(lab: Lab, pair: Pair, say: Say) -> dict[str, float]:
    """One life of a pair, from nothing to nothing: the figures of all `WORK`."""
    figures: dict[str, float] = {}

    def note(title: str, figure: float) -> None:
        figures[title] = figure
        say(f"{title}: {figure:.3g} {unit_of(title, WORK)}")

    with ExitStack() as stack:
        stack.callback(pair.end)
        near = lab.network.namespace(pair.near)
        lab.forget_mappings()
        say("the far host joins")
        address = pair.start()
        _join(pair, near, address, note)
        _transfer(lab, pair, address, note, THROUGHPUT, USAGE)
        stack.callback(lab.set_udp, True)
        with Probe(near, address) as probe:
            probe.wait_for_answer(time.monotonic(), PATH_SECONDS)
            lab.set_udp(False)
            cut = time.monotonic()
            note(CUT, probe.wait_for_answer(cut, PATH_SECONDS) - cut)
            wait_until(lambda: pair.path(address) == "relay", "falling back to the relay", PATH_SECONDS)
        _transfer(lab, pair, address, note, RELAYED_THROUGHPUT, RELAYED_USAGE)
        with Probe(near, address):
            lab.set_udp(True)
            restored = time.monotonic()
            direct = wait_until(lambda: pair.path(address) == "direct", "getting direct again", PATH_SECONDS)
            note(BACK, direct - restored)
    return figures


def _transfer(lab: Lab, pair: Pair, address: str, note: Note, rate: str, usage: str) -> None:
    before = Usage.of(lab.network.namespace(host) for host in pair.hosts)
    gbits = throughput_gbits(lab.run, lab.network.namespace(pair.near), address, seconds=TRANSFER_SECONDS)
    note(rate, gbits)
    note(usage, before.since() / (gbits * TRANSFER_SECONDS / 8))


def _join(pair: Pair, near: str, address: str, note: Note) -> None:
    with Probe(near, address) as probe:
        began = time.monotonic()
        pair.begin()
        answered = probe.wait_for_answer(began, PATH_SECONDS)
        note(FIRST_ANSWER, answered - began)
        note(COLD, answered - began + pair.head_start)
        direct = wait_until(lambda: pair.path(address) == "direct", "getting direct", PATH_SECONDS)
        note(DIRECT, direct - began)
        pair.joined()


def unit_of(title: str, works: Sequence[Work]) -> str:
    return next(work.unit for work in works if work.title == title)


class Speaker:
    """Progress lines with the time since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        click.echo(f"[{time.monotonic() - self._began:5.0f} s] {text}", err=True)

    def about(self, what: str) -> Say:
        return lambda text: self(f"{what}: {text}")
