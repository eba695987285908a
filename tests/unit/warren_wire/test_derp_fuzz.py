"""Changed and broken input at every parser of the relay, the same in every run."""

from __future__ import annotations

import pytest

from support.fuzzing import TARGETS, inputs

INPUTS = 1500


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_does_more_than_it_may(name: str) -> None:
    target = TARGETS[name]
    for data in inputs(INPUTS, seed=len(name)):
        target(data)
