"""The shape of every benchmark's result: one row per piece of work, ours against a peer of the same run."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

FILE_WIDTH: Final = 130


@dataclass(frozen=True, slots=True)
class Row:
    """`ratio` is ours / peer. `goal` bounds it, such as ">= 1.1"; with a unit, such as "<= 60 s", it bounds
    our own figure. `met` says whether it holds, if there is a goal that can be judged."""

    work: str
    ours: float
    peer: float | None
    peer_name: str | None
    unit: str
    ratio: float | None
    goal: str | None
    met: bool | None


def row(
    work: str,
    ours: float,
    unit: str,
    *,
    peer: float | None = None,
    peer_name: str | None = None,
    goal: str | None = None,
) -> Row:
    """A row with its ratio and verdict worked out."""
    ratio = ours / peer if peer else None
    bounded = ours if goal is not None and len(goal.split()) > 2 else ratio
    met = None if goal is None or bounded is None else _holds(bounded, goal)
    return Row(work, ours, peer, peer_name, unit, ratio, goal, met)


def _holds(ratio: float, goal: str) -> bool:
    relation, bound, *_ = goal.split()
    match relation:
        case ">=":
            return ratio >= float(bound)
        case "<=":
            return ratio <= float(bound)
        case _:
            raise ValueError(f"a goal is '>= number' or '<= number', with a unit or without, got {goal!r}")


def alternate(runs: int, *sides: Callable[[], float]) -> list[float]:
    """Medians of `runs` runs of each side, taken in turns so that drift of the machine meets both alike."""
    whole = alternate_many(runs, *(_one(side) for side in sides))
    return [medians[""] for medians in whole]


def _one(side: Callable[[], float]) -> Callable[[], Mapping[str, float]]:
    return lambda: {"": side()}


def alternate_many(runs: int, *sides: Callable[[], Mapping[str, float]]) -> list[dict[str, float]]:
    """Like `alternate`, where one run of a side gives several figures by name, each run the same ones."""
    measured: list[list[Mapping[str, float]]] = [[] for _ in sides]
    for _ in range(runs):
        for side, figures in zip(sides, measured, strict=True):
            figures.append(side())
    return [
        {name: statistics.median(run[name] for run in figures) for name in (figures[0] if figures else ())}
        for figures in measured
    ]


def write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": [asdict(row) for row in rows]}, indent=2) + "\n")


def show(name: str, rows: Sequence[Row]) -> None:
    table = Table(title=f"bench {name}", title_justify="left")
    for title in ("work", "ours", "peer", "unit", "ratio", "goal", "met"):
        table.add_column(title, justify="left" if title in ("work", "unit") else "right")
    for each in rows:
        peer = "-" if each.peer is None else f"{each.peer:.3g} ({each.peer_name})"
        ratio = "-" if each.ratio is None else f"{each.ratio:.2f}"
        met = "-" if each.met is None else ("yes" if each.met else "no")
        table.add_row(each.work, f"{each.ours:.3g}", peer, each.unit, ratio, each.goal or "-", met)
    # In a file or a pipe rich would fold everything to 80 columns.
    Console(width=None if sys.stdout.isatty() else FILE_WIDTH).print(table)
