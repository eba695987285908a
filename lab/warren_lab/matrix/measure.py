"""Runs the matrix: one mesh with a node at every place, and cells measured side by side in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from warren_lab.errors import ProcessError
from warren_lab.hosts.port_mapper import PortMapper
from warren_lab.matrix import cells as planned
from warren_lab.matrix.cells import Cell
from warren_lab.matrix.results import Result, Seen
from warren_lab.scenario.nodes import Node, Via
from warren_lab.scenario.overlay import Overlay
from warren_lab.scenario.probe import Probe
from warren_lab.tools import Toolbox

ANSWER_SECONDS: Final = 20.0
DIRECT_SECONDS: Final = 30.0
"""How long a path that physics allows may take."""
RELAYED_SECONDS: Final = 7.0
"""How long one that it forbids is watched: more than one whole search of either program (each 5 s)."""
POLL_SECONDS: Final = 0.1
GROUPS: Final = ("wireguard", "peers")

Say = Callable[[str], None]


def measure(wanted: Sequence[Cell], toolbox: Toolbox, *, width: int, say: Say) -> Iterator[Result]:
    """The results as they come, `width` cells at a time."""
    where = planned.places(wanted)
    say(f"{len(where)} nodes behind {len(where)} attachments of their own join one mesh")
    with Overlay(planned.topology(where), toolbox) as overlay:
        for place in where:
            if place.kind.maps_ports:
                PortMapper(overlay.run, overlay.network, place.router)
        overlay.join({place.host: place.side for place in where})
        say(f"all have joined; {len(wanted)} cells, {width} at a time")
        with ThreadPoolExecutor(width) as pool:
            for group in planned.rounds(wanted, width):
                yield from pool.map(lambda cell: _measure(overlay, cell), group)


def _measure(overlay: Overlay, cell: Cell) -> Result:
    near, far = overlay.nodes[cell.near.host], overlay.nodes[cell.far.host]
    with Probe(near.namespace, far.address) as probe:
        began = time.monotonic()
        try:
            answered = probe.wait_for_answer(began, ANSWER_SECONDS) - began
        except ProcessError as error:
            return Result(cell, Seen.NOTHING, None, None, str(error))
        patience = DIRECT_SECONDS if cell.expects_direct else RELAYED_SECONDS
        while time.monotonic() < began + patience:
            if _both_direct(near, far):
                return Result(cell, Seen.DIRECT, answered, time.monotonic() - began)
            time.sleep(POLL_SECONDS)
        return Result(cell, Seen.RELAYED, answered, None, _one_sided(near, far))


def _both_direct(near: Node, far: Node) -> bool:
    return near.via(far.address) is Via.DIRECT and far.via(near.address) is Via.DIRECT


def _one_sided(near: Node, far: Node) -> str:
    for title, node, other in (("near", near, far), ("far", far, near)):
        if node.via(other.address) is Via.DIRECT:
            return f"only the {title} node sends directly"
    return ""
