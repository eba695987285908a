"""What was seen in a cell, and whether it is as good as physics and as stock against stock. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from warren_lab.matrix.cells import YARDSTICK, Cell
from warren_lab.scenario.observe import Reach


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds count from the first packet that was sent."""

    cell: Cell
    seen: Reach
    answer_seconds: float | None
    direct_seconds: float | None
    note: str = ""

    @property
    def expected(self) -> Reach:
        return Reach.DIRECT if self.cell.expects_direct else Reach.RELAYED


SLOWER_SECONDS: Final = 2.0
SLOWER_FACTOR: Final = 2.0
"""A path that takes this much longer than the yardstick's is slower: less is the weather of the machine."""


def worse(result: Result, yardstick: Result | None) -> list[str]:
    """What is worse than it should be, in words; empty if nothing is."""
    found = []
    if result.seen < result.expected:
        found.append(f"{result.seen.word}, where {result.expected.word} is possible")
    if yardstick is None or yardstick is result:
        return found
    if result.seen < yardstick.seen:
        found.append(f"{result.seen.word}, where stock is {yardstick.seen.word}")
    ours, stock = result.direct_seconds, yardstick.direct_seconds
    if ours is not None and stock is not None and ours > max(stock + SLOWER_SECONDS, stock * SLOWER_FACTOR):
        found.append(f"direct after {ours:.1f} s, where stock took {stock:.1f} s")
    return found


@dataclass(frozen=True, slots=True)
class Report:
    """Everything of one run."""

    results: tuple[Result, ...]

    def yardstick(self, cell: Cell) -> Result | None:
        """Stock against stock between the same kinds."""
        return self.of(Cell(YARDSTICK, cell.near_kind, cell.far_kind))

    def of(self, cell: Cell) -> Result | None:
        return next((result for result in self.results if result.cell == cell), None)

    def verdicts(self) -> Mapping[Result, Sequence[str]]:
        """What is wrong with each of our cells. Stock against stock is the measure, never measured."""
        return {
            result: worse(result, self.yardstick(result.cell))
            for result in self.results
            if result.cell.pair != YARDSTICK
        }

    @property
    def good(self) -> bool:
        return not any(self.verdicts().values())

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        verdicts = self.verdicts()
        return {
            "good": self.good,
            "cells": [_row(result, verdicts.get(result, ())) for result in self.results],
        }


def _row(result: Result, wrong: Sequence[str]) -> dict[str, Any]:
    return {
        "pair": str(result.cell.pair),
        "near": result.cell.near_kind.name,
        "far": result.cell.far_kind.name,
        "expected": result.expected.word,
        "seen": result.seen.word,
        "answer_seconds": _rounded(result.answer_seconds),
        "direct_seconds": _rounded(result.direct_seconds),
        "worse": list(wrong),
        "note": result.note,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
