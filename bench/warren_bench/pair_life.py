"""One life of a pair of hosts, from nothing to nothing, and every figure that is taken on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

import click

from warren_bench.pairs import Lab, Pair, wait_until
from warren_bench.usage import Usage
from warren_lab.hosts import throughput_gbits
from warren_lab.scenario.lines import Lines
from warren_lab.scenario.nodes import Via
from warren_lab.scenario.probe import Probe

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
BROKEN: Final = "TCP connections broken by that"

UNITS: Final = {
    FIRST_ANSWER: "s",
    DIRECT: "s",
    COLD: "s",
    THROUGHPUT: "Gbit/s",
    USAGE: "s/GB",
    RELAYED_THROUGHPUT: "Gbit/s",
    RELAYED_USAGE: "s/GB",
    CUT: "s",
    BACK: "s",
    BROKEN: "connections",
}

Say = Callable[[str], None]
Note = Callable[[str, float], None]


def measure(lab: Lab, pair: Pair, say: Say) -> dict[str, float]:
    """One life of a pair, from nothing to nothing: a figure for each of `UNITS`."""
    figures: dict[str, float] = {}

    def note(title: str, figure: float) -> None:
        figures[title] = figure
        say(f"{title}: {figure:.3g} {UNITS[title]}")

    with ExitStack() as stack:
        stack.callback(pair.end)
        near = lab.network.namespace(pair.near)
        lab.forget_mappings()
        say("the far host joins")
        address = pair.start()
        _join(pair, near, address, note)
        _transfer(lab, pair, address, note, THROUGHPUT, USAGE)
        stack.callback(lab.set_udp, True)
        lines = stack.enter_context(Lines(near, address))
        with Probe(near, address) as probe:
            probe.wait_for_answer(time.monotonic(), PATH_SECONDS)
            lab.set_udp(False)
            cut = time.monotonic()
            note(CUT, probe.wait_for_answer(cut, PATH_SECONDS) - cut)
            wait_until(lambda: pair.via(address) is Via.RELAY, "falling back to the relay", PATH_SECONDS)
        _transfer(lab, pair, address, note, RELAYED_THROUGHPUT, RELAYED_USAGE)
        with Probe(near, address):
            lab.set_udp(True)
            restored = time.monotonic()
            direct = wait_until(lambda: pair.via(address) is Via.DIRECT, "getting direct again", PATH_SECONDS)
            note(BACK, direct - restored)
        note(BROKEN, 0 if lines.alive(PATH_SECONDS) else 1)
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
        direct = wait_until(lambda: pair.via(address) is Via.DIRECT, "getting direct", PATH_SECONDS)
        note(DIRECT, direct - began)
        pair.joined()


class Speaker:
    """Progress lines with the time since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        click.echo(f"[{time.monotonic() - self._began:5.0f} s] {text}", err=True)

    def about(self, what: str) -> Say:
        return lambda text: self(f"{what}: {text}")
