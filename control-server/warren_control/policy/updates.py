"""What a change of nodes touches: which selectors mean something else now, which rules and nodes follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from warren_control.policy import ranges
from warren_control.policy.compiled import Compiled, Stale
from warren_control.policy.network import Network, Node
from warren_control.policy.ranges import Prefix, block_of
from warren_control.policy.resolve import Resolver
from warren_control.policy.selectors import Kind, Selector

_PEOPLE: Final = frozenset({Kind.USER, Kind.GROUP, Kind.DOMAIN, Kind.ROLE})
_BY_NATURE: Final = _PEOPLE | {Kind.TAG, Kind.TAGGED, Kind.MEMBER}


@dataclass(frozen=True, slots=True)
class PeerChange:
    gained: frozenset[int]
    lost: frozenset[int]


_NO_PEERS: Final[Mapping[int, PeerChange]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Changes:
    """What may differ after a change. Nodes that are not named are told what they were told before."""

    filters: frozenset[int] = frozenset()
    peers: Mapping[int, PeerChange] = field(default_factory=lambda: _NO_PEERS)
    """For the nodes that changed: whom they see newly or no longer. It holds the other way round too."""
    ssh: frozenset[int] = frozenset()
    capabilities: frozenset[int] = frozenset()
    addresses: frozenset[int] = frozenset()
    """Nodes whose addresses differ in the views of others, and that see those of others differently."""
    viewers: frozenset[int] = frozenset()
    """Nodes whose own view of all peers' routes may differ."""
    routers: frozenset[int] = frozenset()
    """Peers whose routes may differ in everybody's view."""

    def __bool__(self) -> bool:
        sets = (self.filters, self.ssh, self.capabilities, self.addresses, self.viewers, self.routers)
        return bool(self.peers) or any(sets)


NO_CHANGES: Final = Changes()


@dataclass(frozen=True, slots=True)
class NodeChange:
    id: int
    old: Node | None
    new: Node | None

    @property
    def both(self) -> Iterator[Node]:
        yield from (node for node in (self.old, self.new) if node is not None)

    @property
    def moved(self) -> bool:
        """It came, went, or has other addresses."""
        return self.old is None or self.new is None or self.old.addresses != self.new.addresses

    @property
    def subnet_routes(self) -> frozenset[Prefix]:
        """Routes that it has newly or no longer."""
        return _routes(self.old, exits=False) ^ _routes(self.new, exits=False)

    @property
    def exit_changed(self) -> bool:
        return bool(_routes(self.old, exits=True)) != bool(_routes(self.new, exits=True))


def _routes(node: Node | None, *, exits: bool) -> frozenset[Prefix]:
    if node is None:
        return frozenset()
    return frozenset(route for route in node.routes if (route.prefixlen == 0) is exits)


def node_changes(old: Network, new: Network) -> list[NodeChange]:
    """Nodes that differ in something a policy can see."""
    found = [
        NodeChange(node_id, old.nodes.get(node_id), node)
        for node_id, node in new.nodes.items()
        if node is not old.nodes.get(node_id) and not _same(old.nodes.get(node_id), node)
    ]
    found.extend(
        NodeChange(node_id, node, None) for node_id, node in old.nodes.items() if node_id not in new.nodes
    )
    return found


def _same(old: Node | None, new: Node) -> bool:
    return old is not None and replace(old, name=new.name) == new


def touched_selectors(compiled: Compiled, changes: Iterable[NodeChange]) -> set[Selector]:
    """The selectors that mean other nodes or addresses because of these changes, or may."""
    touched: set[Selector] = set()
    for change in changes:
        touched.update(_touched(compiled, change))
    return touched


def _touched(compiled: Compiled, change: NodeChange) -> Iterator[Selector]:
    routes = ranges.of_blocks(block_of(route) for route in change.subnet_routes)
    for selector in compiled.selectors:
        concerned = [compiled.resolver.concerns(selector, node) for node in change.both]
        match selector.kind:
            case kind if kind in _BY_NATURE:
                touched = any(concerned) if change.moved else concerned.count(True) == 1
            case Kind.EVERYONE:
                touched = change.moved or bool(routes)
            case Kind.DANGER_ALL:
                touched = change.moved or change.exit_changed
            case _:
                touched = (
                    change.exit_changed
                    or (change.moved and any(concerned))
                    or (bool(routes) and compiled.resolver.resolve(selector).space.meets(routes))
                )
        if touched:
            yield selector


def people_selectors(compiled: Compiled) -> frozenset[Selector]:
    return frozenset(selector for selector in compiled.selectors if selector.kind in _PEOPLE)


def people_moved(
    before: Resolver, after: Resolver, selectors: Iterable[Selector]
) -> tuple[set[Selector], int]:
    """Selectors of users that mean other nodes since users changed, and those nodes."""
    touched: set[Selector] = set()
    nodes = 0
    for selector in selectors:
        difference = before.resolve(selector).nodes ^ after.resolve(selector).nodes
        if difference:
            touched.add(selector)
            nodes |= difference
    return touched, nodes


def stale_filters(compiled: Compiled, stale: Stale, owners: Iterable[int]) -> int:
    """Nodes whose filter holds something that is no longer so. Changed nodes come on top."""
    roster = compiled.roster
    nodes = 0
    renamed = {side for side, former in stale.sources.items() if former.texts != compiled.sources(side).texts}
    for source_side, target_side in compiled.pairs:
        targets = compiled.targets(target_side)
        if source_side in renamed:
            nodes |= targets.reduced
        former = stale.targets.get(target_side)
        if former is not None:
            nodes |= former.reduced ^ targets.reduced
    for rule in compiled.via_rules:
        if rule.sources in renamed:
            for target in compiled.via_targets(rule):
                nodes |= target.holders
    if compiled.self_rules:
        for owner in owners:
            nodes |= roster.by_owner.get(owner, 0)
    return nodes


def affected_routers(network: Network, changes: Iterable[NodeChange], former: Network) -> frozenset[int]:
    """Peers whose routes others may see differently: those that share a prefix with what changed."""
    prefixes: set[Prefix] = set()
    found: set[int] = set()
    for change in changes:
        for node in change.both:
            prefixes.update(node.subnet_routes)
            if node.routes:
                found.add(node.id)
    old, new = former.primaries, network.primaries
    if old is not None and new is not None and old is not new:
        prefixes.update(prefix for prefix in {*old, *new} if old.get(prefix) != new.get(prefix))
    if prefixes:
        found.update(node.id for node in network.nodes.values() if not prefixes.isdisjoint(node.routes))
    return frozenset(node_id for node_id in found if node_id in network.nodes)
