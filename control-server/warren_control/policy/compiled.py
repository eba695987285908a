"""A document's rules bound to the nodes of a mesh: every side compiled once, sets of nodes for each rule.

This is the inverted index, from rule to nodes. Nothing here is computed for pairs of nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from warren_control.policy import ranges
from warren_control.policy.bits import Membership
from warren_control.policy.document import Document
from warren_control.policy.network import User
from warren_control.policy.program import Rule, Scope, rules_of, used_sides
from warren_control.policy.ranges import AddressSet, Run
from warren_control.policy.resolve import Resolver
from warren_control.policy.roster import Roster
from warren_control.policy.selectors import Selector
from warren_control.policy.sides import Entry, Side, SideCompiler, Sources, Targets

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class ViaTarget:
    """One destination of a via rule."""

    entry: Entry
    holders: int
    """Tagged nodes that serve it: the only ones that have the rule."""
    visible: int
    """Nodes that count as destination where visibility is decided."""


@dataclass(frozen=True, slots=True)
class Arcs:
    """The distinct pairs of sources and destinations of global rules, and where a node stands in them."""

    pairs: tuple[tuple[int, int], ...]
    as_source: Membership
    as_target: Membership


@dataclass(frozen=True, slots=True)
class Stale:
    """What sides were before a refresh, for those that changed."""

    sources: Mapping[Side, Sources]
    targets: Mapping[Side, Targets]


class Compiled:
    """Rules with their sides. `refresh` recomputes the sides that name any of some selectors."""

    def __init__(self, document: Document, roster: Roster, users: Mapping[int, User]) -> None:
        self.document = document
        self.roster = roster
        self.resolver = Resolver(document, roster, users)
        self._compiler = SideCompiler(document, roster, self.resolver)
        rules = rules_of(document)
        self.global_rules = tuple(rule for rule in rules if rule.scope is Scope.GLOBAL)
        self.self_rules = tuple(rule for rule in rules if rule.scope is Scope.SELF)
        self.via_rules = tuple(rule for rule in rules if rule.scope is Scope.VIA)
        # Distinct pairs of sides: what visibility and routes look at, however many ports the rules have.
        self.pairs = tuple(dict.fromkeys((rule.sources, rule.targets) for rule in self.global_rules))
        self.self_sides = tuple(dict.fromkeys(rule.sources for rule in self.self_rules))
        source_sides, target_sides = used_sides(rules)
        self._selectors = frozenset(
            selector for side in source_sides | target_sides for selector in side.selectors
        )
        self._sources = {side: self._compiler.sources(side) for side in source_sides}
        self._targets = {side: self._compiler.targets(side) for side in target_sides}
        self._canonical: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._arcs: Arcs | None = None
        self._node_texts: dict[int, tuple[str, ...]] = {}
        self._via: dict[tuple[Side, tuple[str, ...]], tuple[ViaTarget, ...]] = {}

    @property
    def selectors(self) -> frozenset[Selector]:
        """Every selector whose meaning is held anywhere."""
        return self._selectors | self.resolver.known

    def sources(self, side: Side) -> Sources:
        return self._sources[side]

    def targets(self, side: Side) -> Targets:
        return self._targets[side]

    def shared(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """The one object for equal `SrcIPs`, so that rules with the same sources are found fast."""
        if not self._canonical:
            for sources in self._sources.values():
                self._canonical.setdefault(sources.texts, sources.texts)
        return self._canonical.setdefault(texts, texts)

    def texts_of(self, nodes: int) -> tuple[str, ...]:
        """`SrcIPs` for a set of nodes."""
        found = self._node_texts.get(nodes)
        if found is None:
            texts = ranges.of_points(self.roster.points(nodes)).texts()
            found = self._node_texts[nodes] = self.shared(tuple(sorted(texts)))
        return found

    def via_targets(self, rule: Rule) -> tuple[ViaTarget, ...]:
        """The destinations of a via rule that some tagged node serves, with those nodes."""
        key = (rule.targets, rule.via)
        found = self._via.get(key)
        if found is None:
            found = self._via[key] = tuple(self._via_targets(rule))
        return found

    def _via_targets(self, rule: Rule) -> Iterator[ViaTarget]:
        roster = self.roster
        tagged = 0
        for tag in rule.via:
            tagged |= roster.by_tag.get(tag, 0)
        for entry in self._targets[rule.targets].entries:
            space = AddressSet((Run(entry.first, entry.last),))
            serving = roster.routers_over(space) | (roster.exits if entry.public else 0)
            if serving & tagged:
                yield ViaTarget(entry, serving & tagged, serving | roster.owners_in(space))

    @property
    def arcs(self) -> Arcs:
        if self._arcs is None:
            found = (
                (self._sources[sources].reach, self._targets[targets].visible)
                for sources, targets in self.pairs
            )
            pairs = tuple(dict.fromkeys(arc for arc in found if all(arc)))
            self._arcs = Arcs(
                pairs,
                Membership([source for source, _ in pairs]),
                Membership([target for _, target in pairs]),
            )
        return self._arcs

    def use(self, resolver: Resolver) -> None:
        """Read names of users by another list of users from now on. A refresh must follow."""
        self.resolver = resolver
        self._compiler = SideCompiler(self.document, self.roster, resolver)

    def refresh(self, touched: Iterable[Selector], *, everything: bool = False) -> Stale:
        """Recompute the sides that name one of the selectors."""
        names = frozenset(touched)
        self.resolver.forget(names)

        def concerned(side: Side) -> bool:
            return everything or bool(side.postures) or not names.isdisjoint(side.selectors)

        stale = Stale(
            _renewed(self._sources, concerned, self._compiler.sources),
            _renewed(self._targets, concerned, self._compiler.targets),
        )
        self._canonical.clear()
        self._node_texts.clear()
        self._arcs = None
        self._via.clear()
        return stale


def _renewed(
    compiled: dict[Side, V], concerned: Callable[[Side], bool], compute: Callable[[Side], V]
) -> dict[Side, V]:
    """Put new values in where they differ; the former ones come back."""
    former: dict[Side, V] = {}
    for side, before in compiled.items():
        if concerned(side):
            after = compute(side)
            if after != before:
                former[side] = before
                compiled[side] = after
    return former
