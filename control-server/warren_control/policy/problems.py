"""What is wrong with a policy: where, what was expected, the nearest valid name. All problems at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Final

from warren_control.policy.hujson import Positions

# A person repairs a few at a time; the rest is often a consequence of the first.
MAX_PROBLEMS: Final = 20
_MAX_CANDIDATES: Final = 2000
_MAX_NAME: Final = 120


@dataclass(frozen=True, slots=True)
class Problem:
    line: int
    column: int
    where: str
    """Path in the document: `acls[0].dst[1]`."""
    text: str
    expected: str = ""
    nearest: str | None = None
    """The valid name that is most like the one found."""

    @property
    def hint(self) -> str:
        """What was expected, and what was perhaps meant."""
        expected = f"expected {self.expected}" if self.expected else ""
        nearest = f'did you mean "{self.nearest}"?' if self.nearest is not None else ""
        return "; ".join(part for part in (expected, nearest) if part)

    def __str__(self) -> str:
        parts = [f"line {self.line}, column {self.column}: "]
        if self.where:
            parts.append(f"{self.where}: ")
        parts.append(self.text)
        if self.expected:
            parts.append(f" (expected {self.expected})")
        if self.nearest is not None:
            parts.append(f'; did you mean "{self.nearest}"?')
        return "".join(parts)


class PolicyError(Exception):
    """A policy that cannot be accepted. Nothing of it may be used."""

    def __init__(self, problems: tuple[Problem, ...], more: int = 0) -> None:
        self.problems = problems
        self.more = more
        lines = [str(problem) for problem in problems]
        if more:
            lines.append(f"and {more} more")
        super().__init__("\n".join(lines))


class ProblemList:
    """Collects problems and warnings while a document is read."""

    def __init__(self, positions: Positions) -> None:
        self.positions = positions
        self._found: list[Problem] = []
        self._more = 0
        self.warnings: list[Problem] = []

    def add(
        self,
        offset: int,
        where: str,
        text: str,
        expected: str = "",
        *,
        name: str | None = None,
        candidates: Iterable[str] = (),
    ) -> None:
        if len(self._found) == MAX_PROBLEMS:
            self._more += 1
            return
        nearest = nearest_name(name, candidates) if name is not None else None
        self._found.append(Problem(*self.positions.of(offset), where, text, expected, nearest))

    def warn(self, offset: int, where: str, text: str) -> None:
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem(*self.positions.of(offset), where, text))

    def line(self, offset: int) -> int:
        return self.positions.of(offset)[0]

    def position(self, offset: int) -> tuple[int, int]:
        return self.positions.of(offset)

    @property
    def any(self) -> bool:
        return bool(self._found)

    def raise_if_any(self) -> None:
        if self._found:
            ordered = sorted(self._found, key=lambda one: (one.line, one.column))
            raise PolicyError(tuple(ordered), self._more)


def nearest_name(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`, ignoring case, if one is like it at all."""
    if not name or len(name) > _MAX_NAME:
        return None
    by_folded = {one.casefold(): one for one in islice(candidates, _MAX_CANDIDATES) if len(one) <= _MAX_NAME}
    found = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def quoted(text: str) -> str:
    """A name as error texts show it: in double quotes, shortened, on one line."""
    shown = text if len(text) <= 200 else text[:200] + "…"
    return '"' + shown.replace("\n", "\\n") + '"'
