"""What a benchmark's row says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from warren_bench import frame


def test_a_ratio_is_ours_over_the_peer() -> None:
    assert frame.row("tcp", 3.0, "Gbit/s", peer=2.0, peer_name="tailscaled").ratio == 1.5


@pytest.mark.parametrize(
    ("ours", "goal", "met"), [(3.0, ">= 1.5", True), (2.9, ">= 1.5", False), (1.0, "<= 0.5", True)]
)
def test_a_goal_is_a_bound_on_the_ratio(ours: float, goal: str, met: bool) -> None:
    assert frame.row("tcp", ours, "Gbit/s", peer=2.0, peer_name="tailscaled", goal=goal).met is met


def test_without_a_peer_there_is_no_ratio_and_no_verdict() -> None:
    alone = frame.row("registered", 0.4, "s", goal="<= 1")
    assert (alone.ratio, alone.met) == (None, None)


@pytest.mark.parametrize(("ours", "met"), [(59.0, True), (61.0, False)])
def test_a_goal_with_a_unit_is_a_bound_on_our_figure(ours: float, met: bool) -> None:
    assert frame.row("all joined", ours, "s", goal="<= 60 s").met is met
    assert frame.row("all joined", ours, "s", peer=1.0, peer_name="headscale", goal="<= 60 s").met is met


def test_sides_take_turns_and_the_median_is_kept() -> None:
    order: list[str] = []
    ours, peer = iter([1.0, 9.0, 2.0]), iter([5.0, 5.0, 5.0])

    def side(name: str, figures: Iterator[float]) -> float:
        order.append(name)
        return next(figures)

    medians = frame.alternate(3, lambda: side("ours", ours), lambda: side("peer", peer))
    assert medians == [2.0, 5.0]
    assert order == ["ours", "peer"] * 3


def test_the_file_holds_the_rows_by_their_names(tmp_path: Path) -> None:
    frame.write(tmp_path / "a" / "x.json", [frame.row("tcp", 3.0, "Gbit/s", peer=2.0, peer_name="derper")])
    (only,) = json.loads((tmp_path / "a" / "x.json").read_text())["rows"]
    assert only.keys() == {"work", "ours", "peer", "peer_name", "unit", "ratio", "goal", "met"}


def test_figures_of_one_run_each_get_their_own_median() -> None:
    runs = iter([{"time": 1.0, "rate": 30.0}, {"time": 3.0, "rate": 10.0}, {"time": 2.0, "rate": 20.0}])
    assert frame.alternate_many(3, lambda: next(runs)) == [{"time": 2.0, "rate": 20.0}]
