"""Answers about a policy for people: why something is reachable, who reaches what, what a text would change.

Pure; some look at every node, so that they are asked in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice
from typing import Final

from warren_control.errors import InvalidError, NotFoundError
from warren_control.model import Node, Snapshot
from warren_control.policy import network as seen
from warren_control.policy.differences import ReachChange
from warren_control.policy.document import Place
from warren_control.policy.explain import Allowance, explain
from warren_control.policy.index import PolicyIndex
from warren_control.policy.ports import (
    DEFAULT_PROTOCOLS,
    MAX_PORT,
    PortError,
    Ports,
    parse_protocol,
    protocol_name,
)
from warren_control.policy.ranges import Address

MAX_PAIRS: Final = 2000
_PLACE: Final = re.compile(r"(\w+)\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Pair:
    source: str
    destination: str
    protocol: str
    ports: str


@dataclass(frozen=True, slots=True)
class ReachDifference:
    opened: tuple[Pair, ...]
    closed: tuple[Pair, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class RuleShown:
    """A rule that allows something, with where it stands in the text."""

    section: str
    index: int
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    allowed: bool
    rules: tuple[RuleShown, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where a packet goes: the node that has the address or routes it."""

    node: seen.Node
    name: str
    address: Address | None = None
    """One that the node routes; none for its own."""


class Questions:
    """Asked of one policy over one snapshot."""

    def __init__(self, index: PolicyIndex, snapshot: Snapshot, text: str) -> None:
        self._index = index
        self._snapshot = snapshot
        self._lines = text.splitlines()

    def explain(self, source: str, destination: str, port: int, protocol: str) -> Explanation:
        number = protocol_of(protocol, port)
        target = self.target(destination)
        rules: dict[Place, RuleShown] = {}
        sources = self.sources(source)
        let_in = 0
        for one in sources:
            found = self._allowing(one, target, port, number)
            let_in += bool(found)
            rules |= {allowance.place: self._shown(allowance.place) for allowance in found}
        what = f"{source} to {target.name}:{port}/{protocol_name(number)}"
        if not let_in:
            return Explanation(False, (), f"no rule allows {what}")
        some = f" from {let_in} of {len(sources)} machines" if let_in < len(sources) else ""
        return Explanation(True, tuple(rules.values()), f"{len(rules)} rules allow {what}{some}")

    def sources_of(self, destination: str, port: int, protocol: str) -> list[str]:
        """Names of the nodes that reach it."""
        number, target = protocol_of(protocol, port), self.target(destination)
        return [
            name
            for name, node in self._nodes()
            if node.id != target.node.id and self._allowing(node, target, port, number)
        ]

    def destinations_of(self, source: str, port: int, protocol: str) -> list[str]:
        """Names of the nodes that it reaches."""
        number, sources = protocol_of(protocol, port), self.sources(source)
        return [
            name
            for name, node in self._nodes()
            if any(one != node and self._allowing(one, Target(node, name), port, number) for one in sources)
        ]

    def sources(self, text: str) -> Sequence[seen.Node | Address]:
        """What a person means by a source: a node's name, an address, or a user's machines."""
        named = self._named(text)
        if named is not None:
            return (named,)
        address = _address(text)
        if address is not None:
            owner = self._having(address)
            return (owner or address,)
        users = seen.UserNames(self._index.network.users).matching(text)
        owned = [node for _, node in self._nodes() if node.owner_id in users]
        if not users:
            raise NotFoundError(f"there is no node, address or user {text[:64]!r}")
        if not owned:
            raise NotFoundError(f"{text[:64]} has no machine without tags")
        return owned

    def target(self, text: str) -> Target:
        named = self._named(text)
        if named is not None:
            return Target(named, text)
        address = _address(text)
        if address is None:
            raise NotFoundError(f"there is no node or address {text[:64]!r}")
        owner = self._having(address)
        if owner is not None:
            return Target(owner, self._snapshot.nodes[owner.id].name)
        router = self._router(address)
        if router is None:
            raise NotFoundError(f"{text} is the address of no node and in no route that is in force")
        return Target(router, text, address)

    def _router(self, address: Address) -> seen.Node | None:
        routers = [
            (route.prefixlen, -node.id, node)
            for node in self._index.network.nodes.values()
            for route in node.routes
            if address in route
        ]
        return max(routers, key=lambda found: found[:2])[2] if routers else None

    def _allowing(
        self, source: seen.Node | Address, target: Target, port: int, protocol: int
    ) -> tuple[Allowance, ...]:
        return explain(self._index, source, target.node, port, protocol, routed=target.address)

    def _nodes(self) -> Iterator[tuple[str, seen.Node]]:
        for number, node in sorted(self._index.network.nodes.items()):
            yield self._snapshot.nodes[number].name, node

    def _named(self, text: str) -> seen.Node | None:
        number = self._snapshot.by_name.get(text.partition(".")[0].lower() if _address(text) is None else "")
        return None if number is None else self._index.network.nodes.get(number)

    def _having(self, address: Address) -> seen.Node | None:
        return next((one for one in self._index.network.nodes.values() if address in one.addresses), None)

    def _shown(self, place: Place) -> RuleShown:
        found = _PLACE.match(place.path)
        line = self._lines[place.line - 1].strip() if 0 < place.line <= len(self._lines) else ""
        section, number = (found.group(1), int(found.group(2))) if found else ("", 0)
        return RuleShown(section, number, place.line if found else 0, line if found else place.path)


def protocol_of(name: str, port: int) -> int:
    """The protocol's number; the port is checked too."""
    if not 0 <= port <= MAX_PORT:
        raise InvalidError(f"port {port} is not between 0 and {MAX_PORT}")
    try:
        return parse_protocol(name)
    except PortError as error:
        raise InvalidError(f"protocol: {error.text}") from error


def shown_difference(changes: Iterable[ReachChange], snapshot: Snapshot) -> ReachDifference:
    """Node by node, as people read it, up to a limit."""
    changes = tuple(changes)
    opened = list(islice(_pairs(changes, snapshot.nodes, gained=True), MAX_PAIRS + 1))
    closed = list(islice(_pairs(changes, snapshot.nodes, gained=False), MAX_PAIRS + 1))
    truncated = len(opened) > MAX_PAIRS or len(closed) > MAX_PAIRS
    return ReachDifference(tuple(opened[:MAX_PAIRS]), tuple(closed[:MAX_PAIRS]), truncated)


def _pairs(changes: Iterable[ReachChange], nodes: Mapping[int, Node], *, gained: bool) -> Iterator[Pair]:
    for change in changes:
        sources = change.gained if gained else change.lost
        destinations = [(node, nodes[node].name) for node in sorted(change.nodes)]
        for protocol in _protocols(change.protocols):
            for source in sorted(sources):
                for number, name in [*destinations, *((0, route) for route in sorted(change.routes))]:
                    if number != source:
                        yield Pair(nodes[source].name, name, protocol, _ports(change.ports))


def _protocols(numbers: tuple[int, ...]) -> list[str]:
    return ["any"] if set(numbers) >= DEFAULT_PROTOCOLS else [protocol_name(one) for one in numbers]


def _ports(ports: Ports) -> str:
    if (ports.first, ports.last) == (0, MAX_PORT):
        return "*"
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
