"""The rules of a document in the order and shape of a filter, before they meet any node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from warren_control.policy.document import Capabilities, Document, Grant, PacketMatch
from warren_control.policy.hujson import Json
from warren_control.policy.selectors import Kind, Selector
from warren_control.policy.sides import Side


class Scope(Enum):
    GLOBAL = "for every node"
    SELF = "for the untagged nodes of one user at a time"
    VIA = "for nodes that carry one of the tags"


# What the other direction is granted together with a capability.
COMPANIONS: Final = {
    "tailscale.com/cap/drive": "tailscale.com/cap/drive-sharer",
    "tailscale.com/cap/relay": "tailscale.com/cap/relay-target",
}

GrantedValues = tuple[Json, ...] | None


@dataclass(frozen=True, slots=True)
class Rule:
    order: int
    grant: Grant
    scope: Scope
    sources: Side
    targets: Side
    packet: PacketMatch | None
    """None and no capabilities: the rule lets nodes see each other and nothing more."""
    capabilities: tuple[tuple[str, GrantedValues], ...] = ()
    reversed: bool = False
    """With scope SELF: the user's nodes are the source, the selected ones the destination."""
    via: tuple[str, ...] = ()


def rules_of(document: Document) -> tuple[Rule, ...]:
    builder = _Builder()
    for grant in document.grants:
        builder.add(grant)
    return tuple(builder.rules)


class _Builder:
    def __init__(self) -> None:
        self.rules: list[Rule] = []
        # By identity of the tuples, which the document keeps: an ACL's rules share their sources.
        self._sides: dict[tuple[int, tuple[str, ...]], Side] = {}

    def _side(self, selectors: tuple[Selector, ...], postures: tuple[str, ...]) -> Side:
        key = (id(selectors), postures)
        found = self._sides.get(key)
        if found is None:
            found = self._sides[key] = Side(selectors, postures)
        return found

    def add(self, grant: Grant) -> None:
        sources = self._side(grant.sources, grant.postures)
        if grant.via:
            targets = Side(tuple(one for one in grant.destinations if one.kind is not Kind.SELF))
            for packet in grant.packets:
                self._rule(grant, Scope.VIA, sources, targets, packet, via=grant.via)
            if not grant.packets:
                self._rule(grant, Scope.VIA, sources, targets, None, via=grant.via)
            return
        others = tuple(one for one in grant.destinations if one.kind is not Kind.SELF)
        if others:
            self._steps(grant, Scope.GLOBAL, sources, Side(others))
        if len(others) < len(grant.destinations):
            self._steps(grant, Scope.SELF, sources, Side(()))

    def _steps(self, grant: Grant, scope: Scope, sources: Side, targets: Side) -> None:
        for packet in grant.packets:
            self._rule(grant, scope, sources, targets, packet)
        if grant.capabilities is None:
            return
        self._rule(grant, scope, sources, targets, None, _pairs(grant.capabilities))
        for name, companion in COMPANIONS.items():
            if name in grant.capabilities:
                granted: tuple[tuple[str, GrantedValues], ...] = ((companion, None),)
                if scope is Scope.SELF:
                    self._rule(grant, scope, sources, targets, None, granted, turned=True)
                else:
                    self._rule(grant, scope, targets, sources, None, granted)

    def _rule(
        self,
        grant: Grant,
        scope: Scope,
        sources: Side,
        targets: Side,
        packet: PacketMatch | None,
        capabilities: tuple[tuple[str, GrantedValues], ...] = (),
        *,
        via: tuple[str, ...] = (),
        turned: bool = False,
    ) -> None:
        order = len(self.rules)
        self.rules.append(Rule(order, grant, scope, sources, targets, packet, capabilities, turned, via))


def _pairs(capabilities: Capabilities) -> tuple[tuple[str, GrantedValues], ...]:
    return tuple(capabilities.items())


def used_sides(rules: Iterable[Rule]) -> tuple[frozenset[Side], frozenset[Side]]:
    """The distinct sides that stand as source and as destination."""
    rules = tuple(rules)
    return (
        frozenset(rule.sources for rule in rules),
        frozenset(rule.targets for rule in rules if rule.scope is not Scope.SELF),
    )
