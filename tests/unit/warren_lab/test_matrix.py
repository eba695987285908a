"""The matrix as a plan: what physics allows, which cells run side by side, and what counts as worse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_lab.errors import LabError
from warren_lab.matrix.cells import (
    PAIRS,
    YARDSTICK,
    Cell,
    cells,
    cells_named,
    kinds_named,
    pairs_named,
    places,
    rounds,
    topology,
)
from warren_lab.matrix.kinds import KINDS, can_be_direct
from warren_lab.matrix.results import Report, Result
from warren_lab.matrix.show import complaints, line, markdown
from warren_lab.scenario.observe import Reach

# Rows and columns as in the published accounts of NAT traversal: D direct, R only by a relay.
COLUMNS = ("public", "one-to-one", "full-cone", "easy-af", "easy", "hard", "udp-blocked")
PHYSICS = {
    "public": "DDDDDDR",
    "one-to-one": "DDDDDDR",
    "firewall": "DDDDDRR",
    "full-cone": "DDDDDDR",
    "easy-af": "DDDDDDR",
    "easy": "DDDDDRR",
    "easy-other": "DDDDDRR",
    "easy-mapped": "DDDDDDR",
    "hard": "DDDDRRR",
    "hard-mapped": "DDDDDDR",
    "udp-blocked": "RRRRRRR",
}

ALL = cells(PAIRS, tuple(KINDS.values()))


def cell(name: str) -> Cell:
    (found,) = cells_named([name], PAIRS)
    return found


def test_every_kind_is_in_the_table() -> None:
    assert PHYSICS.keys() == KINDS.keys()


@pytest.mark.parametrize("near", PHYSICS)
def test_what_physics_allows(near: str) -> None:
    row = "".join("D" if can_be_direct(KINDS[near], KINDS[far]) else "R" for far in COLUMNS)
    assert row == PHYSICS[near]


@given(st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(KINDS)))
def test_physics_does_not_care_who_sends_first(near: str, far: str) -> None:
    assert can_be_direct(KINDS[near], KINDS[far]) == can_be_direct(KINDS[far], KINDS[near])


def test_a_whole_matrix_is_one_network_with_every_kind_at_both_ends_for_both_programs() -> None:
    where = places(ALL)
    assert len(where) == 4 * len(KINDS)
    plan = topology(where)
    assert len(plan.routers) + len(plan.public_hosts) == len(where)
    assert {str(plan.router("far-firewall-ours-nat").lan)[:4]} == {"198."}


@given(st.sets(st.sampled_from(ALL), max_size=60), st.integers(1, 9))
def test_rounds_hold_every_cell_once_and_no_node_twice(wanted: set[Cell], width: int) -> None:
    groups = list(rounds(sorted(wanted, key=str), width))
    assert sorted(map(str, (each for group in groups for each in group))) == sorted(map(str, wanted))
    for group in groups:
        nodes = [place for each in group for place in (each.near, each.far)]
        assert len(set(nodes)) == len(nodes) <= 2 * width
        assert len({each.expects_direct for each in group}) == 1


def test_cells_and_pairs_are_chosen_by_name() -> None:
    assert pairs_named("ours-stock,ours-stock,stock-stock") == (PAIRS[1], YARDSTICK)
    assert [str(each) for each in cells_named(["easy/hard"], (YARDSTICK,))] == ["stock-stock:easy/hard"]
    assert str(cell("ours-stock:hard/public")) == "ours-stock:hard/public"
    for wrong, complaint in (("easy", "no cell"), ("easy/soft", "soft"), ("theirs-ours:easy/easy", "theirs")):
        with pytest.raises(LabError, match=complaint):
            cells_named([wrong], PAIRS)
    with pytest.raises(LabError, match="choose from public"):
        kinds_named("easy,soft")


def result(name: str, seen: Reach, direct: float | None = None) -> Result:
    return Result(cell(name), seen, 0.1, direct)


@pytest.mark.parametrize(
    ("ours", "stock", "complaint"),
    [
        (result("ours-ours:easy/easy", Reach.DIRECT, 1.0), ("easy/easy", Reach.DIRECT, 0.5), None),
        (result("ours-ours:easy/hard", Reach.RELAYED), ("easy/hard", Reach.RELAYED, None), None),
        (result("ours-ours:easy/hard", Reach.DIRECT, 1.0), ("easy/hard", Reach.RELAYED, None), None),
        (result("ours-ours:easy/easy", Reach.RELAYED), ("easy/easy", Reach.RELAYED, None), "is possible"),
        (result("ours-ours:easy/hard", Reach.NOTHING), ("easy/hard", Reach.RELAYED, None), "nothing"),
        (result("ours-ours:easy/hard", Reach.RELAYED), ("easy/hard", Reach.DIRECT, 1.0), "stock is direct"),
        (result("ours-ours:easy/easy", Reach.DIRECT, 5.1), ("easy/easy", Reach.DIRECT, 0.1), "after 5.1 s"),
        (result("ours-ours:easy/easy", Reach.DIRECT, 5.1), ("easy/easy", Reach.DIRECT, 4.0), None),
    ],
)
def test_worse_is_what_physics_or_stock_does_better(
    ours: Result, stock: tuple[str, Reach, float | None], complaint: str | None
) -> None:
    report = Report((ours, result(f"stock-stock:{stock[0]}", stock[1], stock[2])))
    assert report.good == (complaint is None)
    said = complaints(report)
    assert bool(said) == (complaint is not None)
    assert all((complaint or "") in text for text in said)
    assert report.document()["good"] == report.good


def test_stock_is_the_measure_and_never_measured() -> None:
    report = Report((result("stock-stock:easy/easy", Reach.NOTHING),))
    assert report.good
    assert report.document()["cells"][0]["worse"] == []


def test_tables_show_each_pair_with_its_kinds() -> None:
    report = Report(
        (result("ours-ours:easy/hard", Reach.NOTHING), result("ours-ours:hard/easy", Reach.RELAYED))
    )
    text = markdown(report)
    assert "| first packet from | easy | hard |" in text
    assert "| **easy** |  | -! |" in text
    assert "| **hard** | R |  |" in text
    assert "WORSE" in line(report.results[0])
    assert "WORSE" not in line(report.results[1])
