"""Runs the matrix: one mesh with a node at every place, and cells measured side by side in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from warren_lab.hosts.port_mapper import PortMapper
from warren_lab.matrix import cells as planned
from warren_lab.matrix.cells import Cell
from warren_lab.matrix.results import Result
from warren_lab.scenario.observe import observe
from warren_lab.scenario.overlay import Overlay
from warren_lab.tools import Toolbox

DIRECT_SECONDS: Final = 30.0
"""How long a path that physics allows may take."""
RELAYED_SECONDS: Final = 7.0
"""How long one that it forbids is watched: more than one whole search of either program (each 5 s)."""
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
    patience = DIRECT_SECONDS if cell.expects_direct else RELAYED_SECONDS
    seen = observe(near, far, patience)
    return Result(cell, seen.reach, seen.answer_seconds, seen.direct_seconds, seen.note)
