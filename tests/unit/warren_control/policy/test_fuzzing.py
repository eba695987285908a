"""A coverage-guided fuzzer over reader and compiler: a policy or a PolicyError, never anything else.

`make fuzz TARGET=policy` does the same for longer with libFuzzer.
"""

from __future__ import annotations

import os
from pathlib import Path

import warren_control.policy
from support.policy_attempts import SEEDS, WORDS, attempt
from support.policy_fuzzing import Fuzzer


def test_every_input_gives_a_policy_or_a_refusal() -> None:
    corpus = list(SEEDS)
    assert all(attempt(seed) for seed in corpus)
    fuzzer = Fuzzer(attempt, Path(warren_control.policy.__file__).parent, WORDS, corpus)
    try:
        fuzzer.run(int(os.environ.get("FUZZ_ROUNDS", "400")))
    except Exception as error:
        raise AssertionError(f"{fuzzer.current!r} raised {error!r}") from error
    assert len(fuzzer.corpus) > len(SEEDS)
