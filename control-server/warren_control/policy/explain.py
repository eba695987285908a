"""Why a packet is let in: the rules that allow it, with their places in the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from warren_control.policy.compiled import Compiled
from warren_control.policy.document import Place
from warren_control.policy.index import PolicyIndex
from warren_control.policy.network import Node
from warren_control.policy.ports import DEFAULT_PROTOCOLS
from warren_control.policy.program import Rule, Scope
from warren_control.policy.ranges import Address, address_at, point


@dataclass(frozen=True, slots=True)
class Allowance:
    """One rule that allows it, between which addresses."""

    place: Place
    source: Address
    destination: Address


def explain(
    index: PolicyIndex,
    source: Node | Address,
    destination: Node,
    port: int,
    protocol: int,
    routed: Address | None = None,
) -> tuple[Allowance, ...]:
    """The rules by which a source reaches a port of a node, or of an address that the node routes.

    None: the packet is dropped.
    """
    compiled = index.compiled
    slot = compiled.roster.slot(destination.id)
    found: dict[tuple[Place, int], Allowance] = {}
    targets = compiled.roster.own_points(slot) if routed is None else (point(routed),)
    for address in source.addresses if isinstance(source, Node) else (source,):
        for target in targets:
            other = address_at(target)
            if address.version == other.version:
                for rule in _allowing(compiled, point(address), slot, target, port, protocol):
                    place = rule.grant.place
                    found.setdefault((place, address.version), Allowance(place, address, other))
    return tuple(found.values())


def _allowing(
    compiled: Compiled, source: int, slot: int, target: int, port: int, protocol: int
) -> Iterator[Rule]:
    for rule in (*compiled.global_rules, *compiled.self_rules, *compiled.via_rules):
        if _fits(rule, port, protocol) and compiled.sources(rule.sources).addresses.overlaps(source, source):
            if rule.scope is Scope.SELF:
                matches = _same_owner(compiled, source, slot) and target in compiled.roster.own_points(slot)
            elif rule.scope is Scope.VIA:
                matches = _served(compiled, rule, slot, target)
            else:
                matches = _is_destination(compiled, rule, slot, target)
            if matches:
                yield rule


def _fits(rule: Rule, port: int, protocol: int) -> bool:
    packet = rule.packet
    if packet is None:
        return False
    wanted = DEFAULT_PROTOCOLS if packet.protocol is None else {packet.protocol}
    return protocol in wanted and any(one.first <= port <= one.last for one in packet.ports)


def _same_owner(compiled: Compiled, source: int, slot: int) -> bool:
    owner = compiled.roster.node(slot).owner_id
    other = compiled.roster.find(source)
    return owner is not None and other is not None and compiled.roster.node(other).owner_id == owner


def _served(compiled: Compiled, rule: Rule, slot: int, target: int) -> bool:
    return any(
        one.holders >> slot & 1 and one.entry.first <= target <= one.entry.last
        for one in compiled.via_targets(rule)
    )


def _is_destination(compiled: Compiled, rule: Rule, slot: int, target: int) -> bool:
    targets = compiled.targets(rule.targets)
    return (
        targets.everything
        or (any(group >> slot & 1 for group in targets.groups) and target in compiled.roster.own_points(slot))
        or any(entry.first <= target <= entry.last for entry in targets.entries)
    )
