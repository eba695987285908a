"""The matrix as tables for people: in a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from warren_lab.matrix.cells import Cell, Pair
from warren_lab.matrix.kinds import KINDS, Kind
from warren_lab.matrix.results import Report, Result
from warren_lab.scenario.observe import Reach

FILE_WIDTH = 160


def tables(report: Report, console: Console) -> None:
    """One table for each pair of programs, then what is worse than it should be."""
    for pair, rows in _grids(report):
        heads = [kind.name for kind in _kinds(report)]
        table = Table(title=f"{pair}: rows send first", title_justify="left")
        table.add_column("")
        for head in heads:
            table.add_column(head, justify="right")
        for kind, results in rows:
            table.add_row(kind.name, *(_text(result) for result in results))
        console.print(table)
    console.print(
        "D direct after so many seconds, R relayed, - no answer; ! worse than possible or than stock"
    )
    for line in complaints(report):
        console.print(f"! {line}", style="red")


def markdown(report: Report) -> str:
    """The same for a document."""
    parts = []
    for pair, rows in _grids(report):
        heads = [kind.name for kind in _kinds(report)]
        parts.append(f"### {pair}\n")
        parts.append(f"| first packet from | {' | '.join(heads)} |")
        parts.append("|---" * (len(heads) + 1) + "|")
        for kind, results in rows:
            parts.append(f"| **{kind.name}** | {' | '.join(_text(result) for result in results)} |")
        parts.append("")
    return "\n".join(parts)


def complaints(report: Report) -> list[str]:
    """A line for each cell that is worse than it should be."""
    return [
        f"{result.cell}: {'; '.join(wrong)}" + (f" ({result.note})" if result.note else "")
        for result, wrong in report.verdicts().items()
        if wrong
    ]


def line(result: Result) -> str:
    """One cell, for progress."""
    answer = "no answer" if result.answer_seconds is None else f"answer after {result.answer_seconds:.2f} s"
    direct = "" if result.direct_seconds is None else f", direct after {result.direct_seconds:.2f} s"
    verdict = {True: "better than expected", False: "WORSE than expected"}[result.seen > result.expected]
    extra = "" if result.seen is result.expected else f" ({verdict})"
    return f"{result.cell}: {result.seen.word}, {answer}{direct}{extra}"


def _grids(report: Report) -> Iterator[tuple[Pair, list[tuple[Kind, list[Result | None]]]]]:
    kinds = _kinds(report)
    for pair in dict.fromkeys(result.cell.pair for result in report.results):
        yield pair, [(near, [report.of(Cell(pair, near, far)) for far in kinds]) for near in kinds]


def _kinds(report: Report) -> Sequence[Kind]:
    found = {kind for result in report.results for kind in (result.cell.near_kind, result.cell.far_kind)}
    return [kind for kind in KINDS.values() if kind in found]


def _text(result: Result | None) -> str:
    if result is None:
        return ""
    mark = "!" if result.seen < result.expected else ""
    match result.seen:
        case Reach.DIRECT:
            return f"D {result.direct_seconds:.1f}{mark}"
        case Reach.RELAYED:
            return f"R{mark}"
        case Reach.NOTHING:
            return f"-{mark}"
