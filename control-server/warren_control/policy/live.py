"""A policy in force over a mesh that changes. One writer owns it.

A change of nodes recomputes the sides of rules that name a node by something that changed, and the filters
that hold them; everything else stays. Work follows the change, not the size of the mesh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from warren_control.policy.capabilities import CapMap
from warren_control.policy.compiled import Stale
from warren_control.policy.document import Document
from warren_control.policy.filters import Filter
from warren_control.policy.index import PolicyIndex, build_index
from warren_control.policy.network import Network
from warren_control.policy.ranges import block_of, of_blocks, point
from warren_control.policy.resolve import Resolver
from warren_control.policy.selectors import Selector
from warren_control.policy.ssh import SshEnds
from warren_control.policy.updates import (
    NO_CHANGES,
    Changes,
    NodeChange,
    PeerChange,
    affected_routers,
    node_changes,
    people_moved,
    people_selectors,
    stale_filters,
    touched_selectors,
)


@dataclass(frozen=True, slots=True)
class _View:
    """What a node is told that is compared before and after."""

    peers: frozenset[int]
    capabilities: CapMap
    addresses: tuple[object, ...]
    only_v6: bool


_UNKNOWN = _View(frozenset(), MappingProxyType({}), (), False)


class LivePolicy:
    """`index` answers for the state that was last taken over; older indexes are void."""

    def __init__(self, index: PolicyIndex) -> None:
        self.index = index

    @classmethod
    def of(cls, document: Document, network: Network, server_url: str = "") -> LivePolicy:
        return cls(build_index(document, network, server_url))

    def update(self, network: Network) -> Changes:
        """Take over another state of the mesh; says whom it may concern."""
        former = self.index.network
        changes = node_changes(former, network)
        if changes or network.users != former.users or network.settings != former.settings:
            return _Step(self, network, changes).run()
        routers = affected_routers(network, (), former)
        self.index = self.index.renewed(network, self.index.built_filters)
        return Changes(routers=routers) if routers else NO_CHANGES


class _Step:
    """One change, from the state before to the state after."""

    def __init__(self, live: LivePolicy, network: Network, changes: list[NodeChange]) -> None:
        self._live = live
        self._network = network
        self._former = live.index.network
        self._changes = changes
        self._compiled = live.index.compiled
        self._roster = live.index.compiled.roster
        self._new_users = network.users != self._former.users

    def run(self) -> Changes:
        resolver = Resolver(self._compiled.document, self._roster, self._network.users)
        touched: set[Selector] = set()
        moved = 0
        if self._new_users:
            selectors = people_selectors(self._compiled)
            touched, moved = people_moved(self._compiled.resolver, resolver, selectors)
        watched = self._watched(moved)
        before, ssh_before = self._views(watched), self._live.index.ssh.ends()
        owners = self._owners(watched)
        covering = self._roster.has_covered_nodes
        touched |= touched_selectors(self._compiled, self._changes)
        for change in self._changes:
            self._roster.replace(change.id, change.new)
        if self._new_users:
            self._compiled.use(resolver)
            touched |= touched_selectors(self._compiled, self._changes)
        everything = covering or self._roster.has_covered_nodes
        stale = self._compiled.refresh(touched, everything=everything)
        owners |= self._owners(watched)
        filters = set(self._network.nodes) if everything else self._stale(stale, watched, owners)
        self._renew(filters)
        routers = affected_routers(self._network, self._changes, self._former)
        if everything:
            routers |= {node.id for node in self._network.nodes.values() if node.subnet_routes}
        return self._result(watched, before, filters, ssh_before, routers)

    def _watched(self, moved: int) -> set[int]:
        """Nodes whose peers or capabilities may differ."""
        watched = {change.id for change in self._changes} | set(self._roster.ids(moved))
        if self._new_users:
            old, new = self._former.users, self._network.users
            renamed = {one for one in {*old, *new} if old.get(one) != new.get(one)}
            watched |= {node.id for node in self._former.nodes.values() if node.owner_id in renamed}
        if self._former.settings != self._network.settings:
            watched |= set(self._network.nodes)
        if self._roster.has_covered_nodes or self._covers_more():
            # A router whose routes reach nodes' own addresses is touched by changes of those nodes.
            watched |= {node.id for node in self._former.nodes.values() if node.subnet_routes}
        return watched

    def _covers_more(self) -> bool:
        """Whether a route comes to contain the address of a node."""
        blocks = [block_of(route) for change in self._changes for route in change.subnet_routes]
        points = [
            point(address)
            for change in self._changes
            if change.new is not None and change.moved
            for address in change.new.addresses
        ]
        return (
            any(True for _ in self._roster.points_in(of_blocks(blocks)))
            or any(block.first <= number <= block.last for block in blocks for number in points)
            or any(True for number in points for _ in self._roster.routes_over(number, number))
        )

    def _owners(self, watched: Iterable[int]) -> set[int]:
        nodes = (self._roster.get(one) for one in watched)
        return {node.owner_id for node in nodes if node is not None and node.owner_id is not None}

    def _stale(self, stale: Stale, watched: set[int], owners: Iterable[int]) -> set[int]:
        changed = {change.id for change in self._changes}
        nodes = stale_filters(self._compiled, stale, owners) & self._roster.everyone
        return changed | set(self._roster.ids(nodes))

    def _renew(self, filters: set[int]) -> None:
        kept: dict[int, Filter] = {
            one: found
            for one, found in self._live.index.built_filters.items()
            if one not in filters and one in self._network.nodes
        }
        self._live.index = self._live.index.renewed(self._network, kept)

    def _views(self, watched: Iterable[int]) -> dict[int, _View]:
        index = self._live.index
        return {
            one: _View(
                index.peers(one),
                index.capabilities(one),
                index.addresses(one),
                index.node_capabilities.without_ipv4(self._roster.slot(one)),
            )
            for one in watched
            if self._roster.get(one) is not None
        }

    def _result(
        self,
        watched: set[int],
        before: Mapping[int, _View],
        filters: set[int],
        ssh_before: list[SshEnds],
        routers: frozenset[int],
    ) -> Changes:
        after = self._views(watched)
        present = self._network.nodes.keys()
        capabilities: set[int] = set()
        addresses: set[int] = set()
        peers: dict[int, PeerChange] = {}
        for one in watched:
            old, new = before.get(one, _UNKNOWN), after.get(one, _UNKNOWN)
            if old.peers != new.peers:
                peers[one] = PeerChange(new.peers - old.peers, old.peers - new.peers)
            if old.capabilities != new.capabilities:
                capabilities.add(one)
            if (old.addresses, old.only_v6) != (new.addresses, new.only_v6):
                addresses.add(one)
        return Changes(
            frozenset(filters & present),
            MappingProxyType(peers),
            self._ssh_changes(ssh_before),
            frozenset(capabilities & present),
            frozenset(addresses & present),
            frozenset(watched & present),
            routers,
        )

    def _ssh_changes(self, before: list[SshEnds]) -> frozenset[int]:
        """Nodes whose SSH rules may differ: changed ones, and destinations of rules with other sources."""
        changed = {change.id for change in self._changes if change.new is not None}
        bits = self._roster.bits(changed)
        nodes = bits
        for old, new in zip(before, self._live.index.ssh.ends(), strict=True):
            if old.sources != new.sources or (old.sources | new.sources) & bits or self._new_users:
                nodes |= old.holders | new.holders
            else:
                nodes |= old.destinations ^ new.destinations
        return frozenset(self._roster.ids(nodes & self._roster.everyone)) if before else frozenset()
