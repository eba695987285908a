"""How the main job's figures become rows."""

from __future__ import annotations

from warren_bench.demo import DEMO_TIMES, WORK, demo_rows, pair_rows
from warren_bench.pair_life import DIRECT, RELAYED_THROUGHPUT, THROUGHPUT


def test_the_demos_times_are_rows_without_a_peer_and_its_other_times_are_not() -> None:
    (row,) = demo_rows({"direct": 1.5, "world_ready": 40.0})
    assert (row.work, row.ours, row.unit, row.peer) == (DEMO_TIMES["direct"], 1.5, "s", None)


def test_throughput_should_be_no_lower_than_the_peers_and_times_no_longer() -> None:
    ours = dict.fromkeys((work.title for work in WORK), 2.0)
    stock = ours | {DIRECT: 4.0, THROUGHPUT: 4.0, RELAYED_THROUGHPUT: 1.0}
    met = {row.work: row.met for row in pair_rows(ours, stock)}
    assert (met[DIRECT], met[THROUGHPUT], met[RELAYED_THROUGHPUT]) == (True, False, True)


def test_the_relayed_transfer_is_compared_with_derper() -> None:
    figures = dict.fromkeys((work.title for work in WORK), 1.0)
    names = {row.work: row.peer_name for row in pair_rows(figures, figures)}
    assert (names[RELAYED_THROUGHPUT], names[THROUGHPUT]) == ("derper", "tailscaled")
