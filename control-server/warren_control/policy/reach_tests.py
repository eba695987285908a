"""Runs a policy's own `tests` against its rules and the nodes there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from warren_control.policy.compiled import Compiled
from warren_control.policy.document import Located, Place, ReachTest
from warren_control.policy.ports import (
    DEFAULT_PROTOCOLS,
    WITH_PORTS,
    PortError,
    parse_ports,
    parse_protocol,
    protocol_name,
)
from warren_control.policy.problems import Problem, quoted
from warren_control.policy.program import Rule
from warren_control.policy.ranges import AddressSet, Run
from warren_control.policy.read_rules import unbracketed
from warren_control.policy.selectors import (
    Kind,
    Names,
    Selector,
    SelectorError,
    parse_selector,
)

FAILED = "test(s) failed"
_SOURCES = frozenset(
    {Kind.EVERYONE, Kind.IP, Kind.CIDR, Kind.HOST, Kind.USER, Kind.DOMAIN, Kind.GROUP, Kind.TAG}
    | {Kind.IPSET, Kind.MEMBER, Kind.TAGGED, Kind.ROLE}
)
_DESTINATIONS = frozenset(
    {Kind.IP, Kind.HOST, Kind.USER, Kind.DOMAIN, Kind.GROUP, Kind.TAG, Kind.MEMBER, Kind.TAGGED, Kind.ROLE}
)


class UnusableError(ValueError):
    """An assertion that cannot be run as it is written."""


@dataclass(frozen=True, slots=True)
class Question:
    selector: Selector
    source: AddressSet
    destination: AddressSet
    port: int
    protocols: frozenset[int]


class ReachTests:
    def __init__(self, compiled: Compiled, names: Names) -> None:
        self._compiled = compiled
        self._names = names
        self._known: dict[Selector, AddressSet] = {}
        self._rules = [rule for rule in compiled.global_rules if rule.packet is not None]

    def failures(self, tests: tuple[ReachTest, ...]) -> Iterator[Problem]:
        for test in tests:
            yield from self._failures(test)

    def _failures(self, test: ReachTest) -> Iterator[Problem]:
        if not test.accept and not test.deny:
            yield failed(test.place, "it asserts nothing", "accept or deny")
            return
        try:
            selector, source = self._source(test.source)
            protocols = _protocols(test.protocol)
        except UnusableError as error:
            yield failed(test.place, str(error))
            return
        words = [(one, True) for one in test.accept] + [(one, False) for one in test.deny]
        for word, wanted in words:
            try:
                question = self._question(selector, source, word, protocols)
            except UnusableError as error:
                yield failed(word.place, str(error), "one destination and one port: tag:web:443")
                continue
            allowing = self.allowing(question)
            if wanted and allowing is None:
                yield failed(word.place, self._denied(test, word, question))
            elif not wanted and allowing is not None:
                places = ", ".join(str(rule.grant.place) for rule in allowing[:3])
                yield failed(word.place, f"{test.source} reaches {word.text}, allowed by {places}")

    def allowing(self, question: Question) -> list[Rule] | None:
        """The rules that together let every source in, or None if some source is kept out."""
        waiting = list(question.source.runs)
        used: list[Rule] = []
        for rule in self._matching(question):
            if question.selector in rule.sources.selectors and not rule.sources.postures:
                return [rule]
            addresses = self._compiled.sources(rule.sources).addresses
            rest = [run for run in waiting if not addresses.overlaps(run.first, run.last)]
            if len(rest) < len(waiting):
                used.append(rule)
            waiting = rest
            if not waiting:
                return used
        return None

    def _matching(self, question: Question) -> Iterator[Rule]:
        """Rules with the protocol, the port and the destination, whoever the source is."""
        for rule in self._rules:
            packet = rule.packet
            assert packet is not None
            if packet.protocol is not None and packet.protocol not in question.protocols:
                continue
            if not any(ports.first <= question.port <= ports.last for ports in packet.ports):
                continue
            if self._compiled.targets(rule.targets).addresses.meets(question.destination):
                yield rule

    def _denied(self, test: ReachTest, word: Located, question: Question) -> str:
        near = [
            rule
            for rule in self._matching(question)
            if self._compiled.sources(rule.sources).addresses.meets(question.source)
        ]
        if near:
            places = ", ".join(str(rule.grant.place) for rule in near[:3])
            return f"not every node of {test.source} reaches {word.text}; only some are let in by {places}"
        return f"{test.source} does not reach {word.text}: no rule allows it{_as(question)}"

    def _source(self, text: str) -> tuple[Selector, AddressSet]:
        selector = self._selector(text, "src")
        if selector.kind not in _SOURCES:
            raise UnusableError(f"src {quoted(text)} cannot be the source of a test")
        return selector, self._addresses(selector, f"src {quoted(text)}")

    def _question(
        self, source_selector: Selector, source: AddressSet, word: Located, protocols: frozenset[int]
    ) -> Question:
        name, colon, ports_text = word.text.strip().rpartition(":")
        if not colon:
            raise UnusableError(f"{quoted(word.text)} names no port")
        try:
            ports = parse_ports(ports_text)
        except PortError as error:
            raise UnusableError(f"{quoted(word.text)}: {error.text}") from error
        if len(ports) != 1 or ports[0].first != ports[0].last:
            raise UnusableError(f"{quoted(word.text)} names more than one port")
        selector = self._selector(unbracketed(name), "dst")
        single = selector.block is None or selector.block.is_single
        if selector.kind not in _DESTINATIONS or not single:
            raise UnusableError(f"{quoted(word.text)} names more than one host")
        destination = self._addresses(selector, quoted(word.text))
        return Question(source_selector, source, destination, ports[0].first, protocols)

    def _selector(self, text: str, side: str) -> Selector:
        try:
            return parse_selector(text, self._names)
        except SelectorError as error:
            raise UnusableError(f"{side} {quoted(text)}: {error.text}") from error

    def _addresses(self, selector: Selector, shown: str) -> AddressSet:
        """Address by address: two nodes with neighbouring addresses stay two sources."""
        known = self._known.get(selector)
        if known is not None:
            return known
        found = self._compiled.resolver.resolve(selector)
        points = sorted(set(self._compiled.roster.points(found.nodes)))
        runs = (*found.space.runs, *(Run(number, number) for number in points))
        if not runs:
            raise UnusableError(f"{shown} means no node and no address now")
        self._known[selector] = AddressSet(tuple(sorted(runs)))
        return self._known[selector]


def _protocols(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(DEFAULT_PROTOCOLS)
    try:
        number = parse_protocol(text)
    except PortError as error:
        raise UnusableError(error.text) from error
    if number not in WITH_PORTS:
        raise UnusableError(f"the protocol {quoted(text)} cannot be tested; tcp, udp and sctp can")
    return frozenset({number})


def _as(question: Question) -> str:
    if question.protocols == DEFAULT_PROTOCOLS:
        return ""
    return " with protocol " + ", ".join(protocol_name(number) for number in sorted(question.protocols))


def failed(place: Place, what: str, expected: str = "") -> Problem:
    return Problem(place.line, place.column, place.path, f"{FAILED}: {what}", expected)
