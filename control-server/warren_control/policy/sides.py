"""The two sides of a rule, compiled once and shared by every rule that has the same words on that side."""

from __future__ import annotations

from dataclasses import dataclass

from warren_control.policy import ranges
from warren_control.policy.bits import bits_of
from warren_control.policy.document import Document
from warren_control.policy.ranges import INTERNET, V6_BASE, AddressSet, run_text
from warren_control.policy.resolve import Resolver
from warren_control.policy.roster import Roster
from warren_control.policy.selectors import LITERAL, Kind, Selector


class Side:
    """The words of one side: selectors, and the postures their nodes must be in (one of them).

    Immutable. Long lists of words stand in many rules and are looked up often, so the hash is kept.
    """

    __slots__ = ("_hash", "postures", "selectors")

    def __init__(self, selectors: tuple[Selector, ...], postures: tuple[str, ...] = ()) -> None:
        self.selectors = selectors
        self.postures = postures
        self._hash = hash((selectors, postures))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Side) or self._hash != other._hash:
            return False
        return self.selectors == other.selectors and self.postures == other.postures


@dataclass(frozen=True, slots=True)
class Sources:
    texts: tuple[str, ...]
    """`SrcIPs`, sorted and without repetition."""
    direct: int
    """Nodes with an address among the sources."""
    reach: int
    """Those, and routers with a subnet route that overlaps the sources."""
    addresses: AddressSet


@dataclass(frozen=True, slots=True)
class Entry:
    """A destination that is written in the policy, or one range of a set of addresses."""

    first: int
    last: int
    text: str
    cidr: str
    """Always with a prefix length, where it is a prefix."""
    public: bool = False
    """Part of `autogroup:internet`."""


@dataclass(frozen=True, slots=True)
class Targets:
    everything: bool
    entries: tuple[Entry, ...]
    groups: tuple[int, ...]
    """Sets of nodes, one for each selector of nodes."""
    visible: int
    """Nodes that count as destination where visibility is decided."""
    reduced: int
    """Nodes whose filter keeps something of these destinations."""
    internet: bool
    """Whether the destinations cover the public internet, or all of one family."""
    explicit: AddressSet
    """What is named, without `*`."""

    @property
    def addresses(self) -> AddressSet:
        return ranges.EVERYWHERE if self.everything else self.explicit

    def __bool__(self) -> bool:
        return self.everything or bool(self.entries) or any(self.groups)


class SideCompiler:
    def __init__(self, document: Document, roster: Roster, resolver: Resolver) -> None:
        self._document = document
        self._roster = roster
        self._resolver = resolver

    def sources(self, side: Side) -> Sources:
        roster = self._roster
        if side.postures:
            nodes = self._in_posture(side)
            addresses = ranges.of_points(roster.points(nodes))
            return Sources(_sorted(addresses.texts()), nodes, nodes | roster.covering(nodes), addresses)
        kinds = {selector.kind for selector in side.selectors}
        nodes, space = self._united(side.selectors)
        if Kind.DANGER_ALL in kinds:
            return Sources(("*",), roster.everyone, roster.everyone, ranges.EVERYWHERE)
        addresses = space | ranges.of_points(roster.points(nodes))
        texts = addresses.texts()
        if Kind.EVERYONE in kinds:
            # Sites behind routers are sources too, each route written as it is.
            texts += tuple(block.text for block in roster.routes)
            addresses |= roster.route_set()
            space |= roster.route_set()
            for selector in side.selectors:
                if selector.kind is not Kind.EVERYONE:
                    found = self._resolver.resolve(selector)
                    texts += (found.space | ranges.of_points(roster.points(found.nodes))).texts()
        direct = nodes | roster.owners_in(space)
        reach = direct | roster.routers_over(space) | roster.covering(nodes)
        return Sources(_sorted(texts), direct, reach, addresses)

    def targets(self, side: Side) -> Targets:
        if side.postures:
            nodes = self._in_posture(side)
            return self._targets(False, (), (nodes,) if nodes else ())
        everything = any(selector.kind is Kind.EVERYONE for selector in side.selectors)
        entries: list[Entry] = []
        groups: list[int] = []
        for selector in side.selectors:
            match selector.kind:
                case Kind.EVERYONE | Kind.SELF:
                    pass
                case Kind.DANGER_ALL | Kind.IPSET | Kind.INTERNET:
                    entries.extend(_range_entries(selector, self._resolver))
                case kind if kind in LITERAL:
                    assert selector.block is not None
                    block = selector.block
                    entries.append(Entry(block.first, block.last, block.text, block.cidr))
                case _:
                    nodes = self._resolver.resolve(selector).nodes
                    if nodes:
                        groups.append(nodes)
        return self._targets(everything, tuple(entries), tuple(groups))

    def _targets(self, everything: bool, entries: tuple[Entry, ...], groups: tuple[int, ...]) -> Targets:
        roster = self._roster
        space = ranges.united((entry.first, entry.last) for entry in entries)
        nodes = 0
        for group in groups:
            nodes |= group
        internet = everything or space.contains_all(INTERNET) or _covers_family(space)
        if everything:
            reduced = visible = roster.everyone
        else:
            reached = nodes | roster.owners_in(space) | roster.routers_over(space) | roster.covering(nodes)
            visible = reached | (roster.exits if internet else 0)
            inside = any(INTERNET.covers(entry.first, entry.last) for entry in entries)
            reduced = reached | (roster.exits if inside or self._public(nodes) else 0)
        explicit = space | ranges.of_points(roster.points(nodes))
        return Targets(everything, entries, groups, visible, reduced, internet, explicit)

    def _public(self, nodes: int) -> bool:
        """Whether one of the nodes has an address of the public internet, which an exit node would route."""
        if not self._roster.exits:
            return False
        public = bits_of({self._roster.owner_of(number) for number in self._roster.points_in(INTERNET)})
        return bool(public & nodes)

    def _united(self, selectors: tuple[Selector, ...]) -> tuple[int, AddressSet]:
        nodes = 0
        runs: list[ranges.Run] = []
        for selector in selectors:
            found = self._resolver.resolve(selector)
            nodes |= found.nodes
            runs.extend(found.space.runs)
        return nodes, ranges.united(runs)

    def _in_posture(self, side: Side) -> int:
        nodes = 0
        for selector in side.selectors:
            nodes |= self._resolver.members(selector)
            if selector.kind is Kind.DANGER_ALL:
                nodes = self._roster.everyone
        wanted = [self._document.postures.get(name, ()) for name in side.postures]
        return bits_of(
            self._roster.slot(node.id)
            for node in self._roster.nodes(nodes)
            if any(
                conditions and all(one.holds(node.attributes) for one in conditions) for conditions in wanted
            )
        )


def _range_entries(selector: Selector, resolver: Resolver) -> list[Entry]:
    if selector.kind is Kind.INTERNET:
        # The service writes first-last here even where a prefix would do.
        return [
            Entry(run.first, run.last, text, text, public=True)
            for run, text in zip(INTERNET.runs, ranges.INTERNET_RANGES, strict=True)
        ]
    runs = resolver.resolve(selector).space.runs
    return [Entry(run.first, run.last, run_text(*run), run_text(*run)) for run in runs]


def _covers_family(space: AddressSet) -> bool:
    return space.covers(0, (1 << 32) - 1) or space.covers(V6_BASE, V6_BASE + (1 << 128) - 1)


def _sorted(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(texts)))
