"""What a new policy changes for people: who reaches which ports of which nodes newly or no longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from warren_control.policy.bits import Membership
from warren_control.policy.compiled import Compiled
from warren_control.policy.document import Document
from warren_control.policy.index import build_index
from warren_control.policy.network import Network
from warren_control.policy.ports import DEFAULT_PROTOCOLS, MAX_PORT, Ports
from warren_control.policy.program import Rule
from warren_control.policy.ranges import Block

# Access to one destination: protocol, first port, last port, the nodes that have it.
Row = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ReachChange:
    """Destinations for which the same nodes gain or lose the same ports.

    A destination may be among those nodes; it reaches itself anyway.
    """

    nodes: frozenset[int]
    routes: frozenset[str]
    protocols: tuple[int, ...]
    ports: Ports
    gained: frozenset[int]
    lost: frozenset[int]


def reach_changes(old: Document, new: Document, network: Network) -> tuple[ReachChange, ...]:
    """The reachable pairs that differ between two policies over the same mesh, grouped where alike."""
    compiled = build_index(new, network).compiled
    before, after = _Access(build_index(old, network).compiled), _Access(compiled)
    roster = compiled.roster
    destinations: list[int | Block] = [*network.nodes, *roster.routes]
    # What changes, to the protocols for which it does, for each destination.
    found: dict[tuple[Ports, int, int], dict[int | str, list[int]]] = {}
    for destination in destinations:
        former, latter = before.rows(destination), after.rows(destination)
        if former != latter:
            own = 0 if isinstance(destination, Block) else 1 << roster.slot(destination)
            name = destination.cidr if isinstance(destination, Block) else destination
            for protocol, ports, gained, lost in _differing(former, latter, ~own):
                found.setdefault((ports, gained, lost), {}).setdefault(name, []).append(protocol)
    return tuple(
        ReachChange(
            frozenset(name for name in names if isinstance(name, int)),
            frozenset(name for name in names if isinstance(name, str)),
            protocols,
            ports,
            frozenset(roster.ids(gained)),
            frozenset(roster.ids(lost)),
        )
        for (ports, gained, lost), changed in found.items()
        for protocols, names in _by_protocols(changed).items()
    )


def _by_protocols(destinations: dict[int | str, list[int]]) -> dict[tuple[int, ...], list[int | str]]:
    found: dict[tuple[int, ...], list[int | str]] = {}
    for name, protocols in destinations.items():
        found.setdefault(tuple(protocols), []).append(name)
    return found


class _Access:
    """Who reaches a node or a route under one policy."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._rules = compiled.global_rules
        self._holders = Membership([compiled.targets(rule.targets).visible for rule in self._rules])

    def rows(self, destination: int | Block) -> frozenset[Row]:
        let_in = self._to_route(destination) if isinstance(destination, Block) else self._to_node(destination)
        return frozenset(
            (protocol, ports.first, ports.last, sources)
            for rule, sources in let_in
            if rule.packet is not None and sources
            for protocol in (DEFAULT_PROTOCOLS if rule.packet.protocol is None else (rule.packet.protocol,))
            for ports in rule.packet.ports
        )

    def _to_route(self, route: Block) -> Iterator[tuple[Rule, int]]:
        """Rules about some of the route, with the nodes they let in."""
        compiled = self._compiled
        for rule in (*self._rules, *compiled.via_rules):
            reaches = compiled.targets(rule.targets).addresses.overlaps(route.first, route.last)
            if reaches and (not rule.via or compiled.via_targets(rule)):
                yield rule, compiled.sources(rule.sources).direct

    def _to_node(self, node_id: int) -> Iterator[tuple[Rule, int]]:
        compiled, roster = self._compiled, self._compiled.roster
        slot = roster.slot(node_id)
        own = roster.own_points(slot)
        for number in self._holders.rows_of(slot):
            rule = self._rules[number]
            targets = compiled.targets(rule.targets)
            if targets.everything or any(targets.explicit.overlaps(one, one) for one in own):
                yield rule, compiled.sources(rule.sources).direct
        owner = roster.node(slot).owner_id
        if owner is not None:
            for rule in compiled.self_rules:
                yield rule, compiled.sources(rule.sources).direct & roster.by_owner[owner]


def _differing(
    former: frozenset[Row], latter: frozenset[Row], others: int
) -> Iterator[tuple[int, Ports, int, int]]:
    """For each protocol the runs of ports over which the same nodes gain and lose access."""
    for protocol in sorted({row[0] for row in former ^ latter}):
        old = [row for row in former if row[0] == protocol]
        new = [row for row in latter if row[0] == protocol]
        starts = {0} | {row[1] for row in (*old, *new)} | {row[2] + 1 for row in (*old, *new)}
        edges = sorted(start for start in starts if start <= MAX_PORT)
        pending: tuple[int, int, int] | None = None
        for first in edges:
            had, has = _at(old, first), _at(new, first)
            gained, lost = has & ~had, had & ~has
            if pending is not None and (gained, lost) != pending[1:]:
                yield protocol, Ports(pending[0], first - 1), pending[1], pending[2]
                pending = None
            if pending is None and (gained | lost) & others:
                pending = (first, gained, lost)
        if pending is not None:
            yield protocol, Ports(pending[0], MAX_PORT), pending[1], pending[2]


def _at(rows: list[Row], port: int) -> int:
    nodes = 0
    for _, first, last, sources in rows:
        if first <= port <= last:
            nodes |= sources
    return nodes
