"""The packet filter of one node: the rules that reach it, joined where alike and cut down to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import summarize_address_range

from warren_control.policy import ranges
from warren_control.policy.bits import Membership
from warren_control.policy.compiled import Compiled
from warren_control.policy.ports import Ports
from warren_control.policy.program import Rule
from warren_control.policy.ranges import INTERNET, AddressSet, Block, address_at, block_of, single
from warren_control.policy.sides import Entry, Targets
from warren_wire.control.messages import CapGrant, FilterRule, NetPortRange, PortRange

Filter = tuple[FilterRule, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """What a node stands for where rules are cut down to it."""

    slot: int
    points: tuple[int, ...]
    texts: tuple[str, ...]
    cidrs: tuple[str, ...]
    routes: AddressSet
    is_exit: bool
    others: tuple[tuple[int, Block], ...]
    """Addresses of other nodes that it routes: set of one slot, address."""

    @property
    def bit(self) -> int:
        return 1 << self.slot


def reach_of(compiled: Compiled, slot: int) -> Reach:
    roster = compiled.roster
    node = roster.node(slot)
    is_exit = bool(roster.exits >> slot & 1)
    routes = ranges.of_blocks(block_of(route) for route in node.subnet_routes)
    routed = routes | INTERNET if is_exit else routes
    blocks = [single(number) for number in roster.covered_by(routed, slot)] if routed else []
    own = [single(number) for number in roster.own_points(slot)]
    return Reach(
        slot,
        tuple(block.first for block in own),
        tuple(block.text for block in own),
        tuple(block.cidr for block in own),
        routes,
        is_exit,
        tuple((1 << roster.owner_of(block.first), block) for block in blocks),
    )


@dataclass(slots=True)
class _Joined:
    """Packet rules with the same sources and protocol, as one."""

    order: int
    texts: tuple[str, ...]
    protocol: int | None
    own: bool = False
    """It may hold addresses of the node: no other node has the same."""
    ports: list[NetPortRange] = field(default_factory=list)


class FilterBuilder:
    """Builds filters against one state of the rules; equal rules of several nodes are one object."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._rules = [
            (rule, compiled.sources(rule.sources), compiled.targets(rule.targets))
            for rule in compiled.global_rules
        ]
        self._holders = Membership([targets.reduced for _, _, targets in self._rules])
        self._first: dict[tuple[int, int | None], int] = {}
        self._shared: dict[tuple[int, int | None, tuple[NetPortRange, ...]], FilterRule] = {}
        for rule, sources, targets in self._rules:
            if rule.packet is not None and sources.texts and targets:
                key = (id(compiled.shared(sources.texts)), rule.packet.protocol)
                self._first.setdefault(key, rule.order)

    def build(self, slot: int) -> Filter:
        reach = reach_of(self._compiled, slot)
        joined: dict[tuple[int, int | None], _Joined] = {}
        found: list[tuple[int, FilterRule]] = []
        for number in self._holders.rows_of(slot):
            rule, sources, targets = self._rules[number]
            if rule.packet is not None:
                self._join(joined, rule, sources.texts, kept_texts(targets, reach), bool(targets.groups))
            elif rule.capabilities:
                found.extend(_capability(rule, sources.texts, kept_prefixes(targets, reach)))
        self._add_self(joined, found, reach)
        self._add_via(joined, reach)
        found.extend((one.order, self._packet(one)) for one in joined.values() if one.ports)
        found.sort(key=lambda pair: pair[0])
        return tuple(rule for _, rule in found)

    def _join(
        self,
        joined: dict[tuple[int, int | None], _Joined],
        rule: Rule,
        texts: tuple[str, ...],
        kept: Iterable[str],
        own: bool,
    ) -> None:
        assert rule.packet is not None
        if not texts:
            return
        texts = self._compiled.shared(texts)
        key = (id(texts), rule.packet.protocol)
        one = joined.get(key)
        if one is None:
            order = min(self._first.get(key, rule.order), rule.order)
            one = joined[key] = _Joined(order, texts, rule.packet.protocol)
        one.order = min(one.order, rule.order)
        one.own |= own
        ports = rule.packet.ports
        one.ports.extend(_port_range(text, one_range) for text in kept for one_range in ports)

    def _packet(self, one: _Joined) -> FilterRule:
        ports = tuple(one.ports)
        protocols = None if one.protocol is None else (one.protocol,)
        if one.own:
            return FilterRule(src_ips=one.texts, dst_ports=ports, ip_proto=protocols)
        key = (id(one.texts), one.protocol, ports)
        found = self._shared.get(key)
        if found is None:
            found = FilterRule(src_ips=one.texts, dst_ports=ports, ip_proto=protocols)
            self._shared[key] = found
        return found

    def _add_self(
        self, joined: dict[tuple[int, int | None], _Joined], found: list[tuple[int, FilterRule]], reach: Reach
    ) -> None:
        """Rules between the untagged nodes of the node's own user."""
        compiled = self._compiled
        owner = compiled.roster.node(reach.slot).owner_id
        if owner is None:
            return
        own = compiled.roster.by_owner[owner]
        for rule in compiled.self_rules:
            chosen = compiled.sources(rule.sources).direct & own
            source, target = (own, chosen) if rule.reversed else (chosen, own)
            texts = compiled.texts_of(source)
            if rule.packet is not None:
                self._join(joined, rule, texts, _group_texts(target, reach), own=True)
            else:
                found.extend(_capability(rule, texts, [_group_prefixes(target, reach)]))

    def _add_via(self, joined: dict[tuple[int, int | None], _Joined], reach: Reach) -> None:
        """Rules that only nodes with one of the named tags have: for what they route."""
        for rule in self._compiled.via_rules:
            if rule.packet is not None:
                served = [
                    target.entry.cidr
                    for target in self._compiled.via_targets(rule)
                    if target.holders & reach.bit
                ]
                if served:
                    texts = self._compiled.sources(rule.sources).texts
                    self._join(joined, rule, texts, served, own=False)


def kept_texts(targets: Targets, reach: Reach) -> Iterator[str]:
    """The destinations that mean this node or what it routes, as they are written."""
    if targets.everything:
        yield "*"
    for entry in targets.entries:
        if _keeps(entry, reach):
            yield entry.text
    for group in targets.groups:
        yield from _group_texts(group, reach)


def kept_prefixes(targets: Targets, reach: Reach) -> Iterator[list[str]]:
    """The prefixes of each destination of a capability: the node's own addresses, and routed prefixes."""
    if targets.everything:
        yield list(reach.cidrs)
    for entry in targets.entries:
        own = zip(reach.points, reach.cidrs, strict=True)
        kept = [cidr for number, cidr in own if entry.first <= number <= entry.last]
        if reach.routes.overlaps(entry.first, entry.last):
            kept.extend(_prefixes(entry))
        yield kept
    for group in targets.groups:
        yield _group_prefixes(group, reach)


def _keeps(entry: Entry, reach: Reach) -> bool:
    return (
        any(entry.first <= number <= entry.last for number in reach.points)
        or reach.routes.overlaps(entry.first, entry.last)
        or (reach.is_exit and INTERNET.covers(entry.first, entry.last))
    )


def _group_texts(group: int, reach: Reach) -> list[str]:
    texts = list(reach.texts) if group & reach.bit else []
    texts.extend(block.text for bit, block in reach.others if group & bit)
    return texts


def _group_prefixes(group: int, reach: Reach) -> list[str]:
    prefixes = list(reach.cidrs) if group & reach.bit else []
    routes = reach.routes
    prefixes.extend(b.cidr for bit, b in reach.others if group & bit and routes.covers(b.first, b.last))
    return prefixes


def _prefixes(entry: Entry) -> list[str]:
    if "-" not in entry.cidr:
        return [entry.cidr]
    first, last = address_at(entry.first), address_at(entry.last)
    return [str(network) for network in summarize_address_range(first, last)]


def _capability(
    rule: Rule, texts: tuple[str, ...], destinations: Iterable[list[str]]
) -> Iterator[tuple[int, FilterRule]]:
    cap_map = dict(rule.capabilities)
    grants = tuple(
        CapGrant(dsts=tuple(sorted(set(prefixes))), cap_map=cap_map) for prefixes in destinations if prefixes
    )
    if grants:
        yield rule.order, FilterRule(src_ips=texts, cap_grant=grants)


@lru_cache(maxsize=1 << 16)
def _port_range(text: str, ports: Ports) -> NetPortRange:
    return NetPortRange(ip=text, ports=PortRange(first=ports.first, last=ports.last))
