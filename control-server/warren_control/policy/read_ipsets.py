"""The section `ipsets`: named sets of addresses, made of additions and removals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from warren_control.policy import ranges
from warren_control.policy.document import frozen_mapping
from warren_control.policy.hujson import String, Value
from warren_control.policy.problems import ProblemList, quoted
from warren_control.policy.ranges import AddressSet, Run
from warren_control.policy.read_names import has_prefix
from warren_control.policy.reading import entries, words
from warren_control.policy.selectors import Kind, Names, SelectorError, parse_selector

# Runs of addresses touched while all sets are computed: below a second.
MAX_WORK: Final = 200_000


@dataclass(frozen=True, slots=True)
class Step:
    adds: bool
    target: str
    word: String
    path: str


def read_ipsets(problems: ProblemList, value: Value | None, names: Names) -> Mapping[str, AddressSet]:
    """IP set to its addresses, other sets inside it resolved."""
    written: dict[str, tuple[Step, ...]] = {}
    for member in entries(problems, value, "ipsets") if value is not None else ():
        name = member.name.value
        if has_prefix(problems, member, "ipsets", "ipset:"):
            found = words(problems, member.value, f"ipsets[{quoted(name)}]")
            written[name] = tuple(_step(one, path) for one, path in found)
    return frozen_mapping(_Sets(problems, written, replace(names, ipsets=frozenset(written))).resolved())


def _step(word: String, path: str) -> Step:
    text = word.value.strip()
    verb, _, target = text.partition(" ")
    if verb in ("add", "remove") and target:
        return Step(verb == "add", target.strip().removeprefix("host:"), word, path)
    return Step(True, text.removeprefix("host:"), word, path)


class _Sets:
    """Resolves sets that name each other, dependencies first and without recursion."""

    def __init__(self, problems: ProblemList, written: Mapping[str, tuple[Step, ...]], names: Names) -> None:
        self._problems = problems
        self._written = written
        self._names = names
        self._done: dict[str, AddressSet] = {}
        self._work = 0

    def resolved(self) -> dict[str, AddressSet]:
        for start in self._written:
            stack: dict[str, Iterator[Step]] = {start: iter(self._written[start])}
            while stack:
                name, steps = next(reversed(stack.items()))
                wanted = next(
                    (s for s in steps if s.target in self._written and s.target not in self._done), None
                )
                if name in self._done or wanted is None:
                    stack.popitem()
                    if name not in self._done:
                        self._done[name] = self._compute(self._written[name])
                elif wanted.target in stack:
                    text = f"{quoted(wanted.target)} contains itself"
                    self._problems.add(wanted.word.offset, wanted.path, text, "no cycle of IP sets")
                    self._done[wanted.target] = ranges.EMPTY
                else:
                    stack[wanted.target] = iter(self._written[wanted.target])
        return self._done

    def _compute(self, steps: tuple[Step, ...]) -> AddressSet:
        total = ranges.EMPTY
        added: list[Run] = []
        for step in steps:
            addresses = self._target(step)
            if step.adds:
                added.extend(addresses.runs)
                self._work += len(addresses.runs)
            else:
                total = (total | ranges.united(added)) - addresses
                added = []
                self._work += len(total.runs) + len(addresses.runs)
            if self._work > MAX_WORK:
                self._problems.add(
                    step.word.offset, step.path, "the IP sets are too large", "fewer or simpler sets"
                )
                return ranges.EMPTY
        return total | ranges.united(added)

    def _target(self, step: Step) -> AddressSet:
        try:
            selector = parse_selector(step.target, self._names)
        except SelectorError:
            selector = None
        if selector is not None and selector.block is not None:
            return ranges.of_blocks([selector.block])
        if selector is not None and selector.kind is Kind.INTERNET:
            return ranges.INTERNET
        if selector is not None and selector.kind is Kind.IPSET:
            return self._done.get(selector.text, ranges.EMPTY)
        self._problems.add(
            step.word.offset,
            step.path,
            f"{quoted(step.target)} cannot be part of an IP set",
            "add or remove of an address, a CIDR, a host, autogroup:internet or another ipset:",
            name=step.target,
            candidates=[*self._names.ipsets, *self._names.hosts],
        )
        return ranges.EMPTY
