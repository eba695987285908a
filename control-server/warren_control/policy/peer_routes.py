"""Which routes of a peer a node is given, and through which of several routers.

For each route the viewers are sets of nodes, computed once; asking for a pair is a look into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from warren_control.policy.compiled import Compiled
from warren_control.policy.network import Node
from warren_control.policy.program import Rule
from warren_control.policy.ranges import Block, Prefix, block_of


@dataclass(frozen=True, slots=True)
class ViaViewers:
    """A via rule that names a route: who is steered, and the tags of the routers."""

    sources: int
    tagged: int


@dataclass(frozen=True, slots=True)
class RouteViewers:
    """Who is concerned with one subnet route, as sets of nodes."""

    named: int
    """Sources, by address, of a rule without via whose destinations overlap the route."""
    related: int
    """Nodes that a rule for all nodes connects with the route in either direction."""
    via: tuple[ViaViewers, ...]
    via_related: tuple[tuple[int, int], ...]
    """The same for via rules: nodes, and the holders of the rule."""


@dataclass(frozen=True, slots=True)
class ExitViewers:
    named: int
    """Sources of a rule to the internet or a whole family."""
    everything: int
    """Sources of a rule to `*`."""
    via: tuple[ViaViewers, ...]


class PeerRoutes:
    """Answers against one state of the rules and one election of primaries."""

    def __init__(self, compiled: Compiled, primaries: Mapping[Prefix, int]) -> None:
        self._compiled = compiled
        self._primaries = primaries
        self._routes: dict[Block, RouteViewers] = {}
        self._exit: ExitViewers | None = None

    def served(self, viewer: Node, peer: Node) -> tuple[Prefix, ...]:
        """Subnet routes that the viewer reaches through the peer; it must be able to see it."""
        found = [route for route in peer.subnet_routes if self._gets(viewer, peer, route)]
        return tuple(sorted(found, key=_order))

    def exit_routes(self, viewer: Node, peer: Node) -> tuple[Prefix, ...]:
        """The exit routes of the peer, for viewers that a rule lets out to the internet through it."""
        if not peer.exit_routes:
            return ()
        viewers = self._exit_viewers()
        slot = self._compiled.roster.slot(viewer.id)
        peer_slot = self._compiled.roster.slot(peer.id)
        steered = [via for via in viewers.via if via.sources >> slot & 1]
        if viewers.named >> slot & 1 or any(via.tagged >> peer_slot & 1 for via in steered):
            return peer.exit_routes
        if viewers.everything >> slot & 1 and not steered:
            return peer.exit_routes
        return ()

    def _gets(self, viewer: Node, peer: Node, route: Prefix) -> bool:
        roster = self._compiled.roster
        bit = 1 << roster.slot(viewer.id)
        block = block_of(route)
        viewers = self._viewers(block)
        is_primary = self._primaries.get(route) == peer.id
        # Standby routers must see the primary, whatever else holds.
        if is_primary and route in viewer.routes:
            return True
        if viewers.named & bit:
            return is_primary
        steered = [via.tagged for via in viewers.via if via.sources & bit]
        if steered:
            tagged = 0
            for nodes in steered:
                tagged |= nodes
            return self._elected(roster.routes.get(block, 0) & tagged, route) == peer.id
        return is_primary and self._related(viewers, bit, 1 << roster.slot(peer.id))

    def _related(self, viewers: RouteViewers, bit: int, peer_bit: int) -> bool:
        if viewers.related & bit:
            return True
        return any(nodes & bit and holders & (bit | peer_bit) for nodes, holders in viewers.via_related)

    def _elected(self, candidates: int, route: Prefix) -> int | None:
        """Among the routers with a via tag: the primary if it is one of them, otherwise the oldest."""
        ids = list(self._compiled.roster.ids(candidates))
        primary = self._primaries.get(route)
        return primary if primary in ids else min(ids, default=None)

    def _viewers(self, block: Block) -> RouteViewers:
        found = self._routes.get(block)
        if found is None:
            found = self._routes[block] = self._compute(block)
        return found

    def _compute(self, block: Block) -> RouteViewers:
        compiled = self._compiled
        named = related = 0
        for source_side, target_side in compiled.pairs:
            sources, targets = compiled.sources(source_side), compiled.targets(target_side)
            if targets.explicit.overlaps(block.first, block.last):
                named |= sources.direct
            if targets.addresses.overlaps(block.first, block.last):
                related |= sources.reach
            if sources.addresses.overlaps(block.first, block.last):
                related |= targets.visible
        via: list[ViaViewers] = []
        via_related: list[tuple[int, int]] = []
        for rule in compiled.via_rules:
            sources = compiled.sources(rule.sources)
            if compiled.targets(rule.targets).explicit.overlaps(block.first, block.last):
                via.append(ViaViewers(sources.direct, self._tagged(rule)))
            touches_sources = sources.addresses.overlaps(block.first, block.last)
            for target in compiled.via_targets(rule):
                if target.entry.first <= block.last and block.first <= target.entry.last:
                    via_related.append((sources.reach, target.holders))
                if touches_sources:
                    via_related.append((target.visible, target.holders))
        return RouteViewers(named, related, tuple(dict.fromkeys(via)), tuple(dict.fromkeys(via_related)))

    def _tagged(self, rule: Rule) -> int:
        nodes = 0
        for tag in rule.via:
            nodes |= self._compiled.roster.by_tag.get(tag, 0)
        return nodes

    def _exit_viewers(self) -> ExitViewers:
        if self._exit is None:
            named = everything = 0
            for source_side, target_side in self._compiled.pairs:
                targets = self._compiled.targets(target_side)
                if targets.everything:
                    everything |= self._compiled.sources(source_side).reach
                elif targets.internet:
                    named |= self._compiled.sources(source_side).reach
            via = tuple(
                ViaViewers(self._compiled.sources(rule.sources).direct, self._tagged(rule))
                for rule in self._compiled.via_rules
                if self._compiled.targets(rule.targets).internet
            )
            self._exit = ExitViewers(named, everything, via)
        return self._exit


def _order(prefix: Prefix) -> tuple[int, int, int]:
    return prefix.version, int(prefix.network_address), prefix.prefixlen
