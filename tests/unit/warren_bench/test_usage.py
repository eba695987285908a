"""Processor time as the kernel tells it."""

from __future__ import annotations

from warren_bench.usage import ticks_of


def test_user_and_system_time_are_added_whatever_the_program_is_called() -> None:
    assert ticks_of("7 (a) b) 3) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 1 0 5 0") == 300
