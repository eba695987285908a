"""How the two compilers' figures become rows."""

from __future__ import annotations

import pytest

from warren_bench.policy import rows_of
from warren_bench.policy_ours import measure
from warren_lab.errors import ToolError

FIGURES = dict.fromkeys(
    ("compile", "filters", "peers", "tag", "endpoint", "megabytes", "rules", "pairs"), 1.0
)


def test_the_full_compile_is_the_sum_and_is_held_against_the_goal() -> None:
    rows = {row.work: row for row in rows_of(10, FIGURES, FIGURES | {"filters": 13.0})}
    full = rows["10: full compile: all of these"]
    assert (full.ours, full.peer, full.met) == (3.0, 15.0, True)
    assert rows["10: one node's tags change"].met is False


def test_sides_that_compiled_something_else_are_not_compared() -> None:
    with pytest.raises(ToolError, match="differ in rules"):
        rows_of(10, FIGURES, FIGURES | {"rules": 2.0})


def test_our_side_measures_what_the_rows_show() -> None:
    figures = measure(100, 10)
    assert figures.keys() == FIGURES.keys()
    assert figures["pairs"] > 0
