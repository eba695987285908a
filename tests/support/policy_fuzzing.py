"""A small coverage-guided fuzzer: inputs that reach new lines of a package are kept and changed further."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

Edge = tuple[CodeType, int, int]
Tracer = Callable[[FrameType, str, Any], Any]
_LONGEST: Final = 4000


@dataclass
class Fuzzer:
    """`attempt` gets each input; anything it raises ends the run. The same seed gives the same run."""

    attempt: Callable[[bytes], object]
    package: Path
    words: Sequence[bytes]
    corpus: list[bytes]
    seed: int = 1
    edges: set[Edge] = field(default_factory=set)
    current: bytes = b""

    def run(self, rounds: int) -> None:
        chance = random.Random(self.seed)
        for one in tuple(self.corpus):
            self._try(one)
        for _ in range(rounds):
            changed = self._changed(chance, chance.choice(self.corpus))
            if self._try(changed):
                self.corpus.append(changed)

    def _try(self, data: bytes) -> bool:
        """Whether the input went where none was before."""
        self.current = data
        seen: set[Edge] = set()
        former = sys.gettrace()
        sys.settrace(self._tracer(seen))
        try:
            self.attempt(data)
        finally:
            sys.settrace(former)
        fresh = seen - self.edges
        self.edges |= fresh
        return bool(fresh)

    def _tracer(self, seen: set[Edge]) -> Tracer:
        inside: dict[str, bool] = {}

        def enter(frame: FrameType, event: str, _: Any) -> Tracer | None:
            name = frame.f_code.co_filename
            if name not in inside:
                inside[name] = self.package in Path(name).parents
            if not inside[name]:
                return None
            last = 0

            def line(inner: FrameType, happened: str, _: Any) -> Tracer:
                nonlocal last
                seen.add((inner.f_code, last, inner.f_lineno))
                last = inner.f_lineno
                return line

            return line

        return enter

    def _changed(self, chance: random.Random, data: bytes) -> bytes:
        for _ in range(chance.randint(1, 4)):
            at = chance.randint(0, len(data))
            end = min(len(data), at + chance.choice((1, 1, 4, 30)))
            other = chance.choice(self.corpus)
            start = chance.randint(0, len(other))
            piece = chance.choice(
                (
                    b"",
                    bytes([chance.randrange(256)]),
                    chance.choice(self.words),
                    other[start : start + chance.choice((3, 30, 200))],
                    data[at:end] * chance.choice((1, 2, 9)),
                )
            )
            data = data[:at] + piece + data[chance.choice((at, end)) :]
        return data[:_LONGEST]
