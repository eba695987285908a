"""What a policy says to each node of a mesh. Every answer is a value, computed when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from warren_control.policy import ranges
from warren_control.policy.approvals import Approvals
from warren_control.policy.capabilities import CapMap, NodeCapabilities
from warren_control.policy.compiled import Compiled
from warren_control.policy.document import Document
from warren_control.policy.filters import Filter, FilterBuilder
from warren_control.policy.network import Network, Node, elect_oldest
from warren_control.policy.peer_routes import PeerRoutes
from warren_control.policy.ranges import Prefix
from warren_control.policy.roster import Roster
from warren_control.policy.ssh import SshRules
from warren_control.policy.ssh_wire import SSHRule
from warren_control.policy.visibility import visible_peers


@dataclass(frozen=True, slots=True)
class PeerRouteView:
    """What a viewer is told of a peer's routes."""

    subnets: tuple[Prefix, ...]
    """Also the peer's `PrimaryRoutes` in this view."""
    exits: tuple[Prefix, ...]


class PolicyIndex:
    """Answers about one state of the mesh. `LivePolicy.update` replaces it."""

    def __init__(
        self, compiled: Compiled, network: Network, server_url: str, filters: Mapping[int, Filter]
    ) -> None:
        self._server_url = server_url
        self._network = network
        self._roster = compiled.roster
        self._compiled = compiled
        self._filters = dict(filters)
        self._builder: FilterBuilder | None = None
        self._ssh: SshRules | None = None
        self._routes: PeerRoutes | None = None
        self._capabilities: NodeCapabilities | None = None
        self._peers: dict[int, int] = {}

    @property
    def document(self) -> Document:
        return self._compiled.document

    @property
    def network(self) -> Network:
        return self._network

    @property
    def compiled(self) -> Compiled:
        return self._compiled

    def filter(self, node_id: int) -> Filter:
        """The packet filter of a node. Empty: nobody may reach it."""
        found = self._filters.get(node_id)
        if found is None:
            if self._builder is None:
                self._builder = FilterBuilder(self._compiled)
            found = self._filters[node_id] = self._builder.build(self._roster.slot(node_id))
        return found

    def peers(self, node_id: int) -> frozenset[int]:
        return frozenset(self._roster.ids(self._peer_slots(node_id)))

    def peer_count(self, node_id: int) -> int:
        return self._peer_slots(node_id).bit_count()

    def sees(self, node_id: int, other_id: int) -> bool:
        return bool(self._peer_slots(node_id) >> self._roster.slot(other_id) & 1)

    def _peer_slots(self, node_id: int) -> int:
        """As bits, so that the peers of all nodes together need a bit for each pair and no more."""
        found = self._peers.get(node_id)
        if found is None:
            found = self._peers[node_id] = visible_peers(self._compiled, self._roster.slot(node_id))
        return found

    def peer_routes(self, viewer_id: int, peer_id: int) -> PeerRouteView:
        """The routes of a visible peer in a viewer's map."""
        routes = self._peer_routes()
        viewer, peer = self._network.nodes[viewer_id], self._network.nodes[peer_id]
        return PeerRouteView(routes.served(viewer, peer), routes.exit_routes(viewer, peer))

    def primary_routes(self, node_id: int) -> tuple[Prefix, ...]:
        """Routes a node is primary for, in its own view."""
        primaries = self._primaries()
        routes = (
            route for route in self._network.nodes[node_id].subnet_routes if primaries.get(route) == node_id
        )
        return tuple(sorted(routes, key=str))

    def ssh_rules(self, node_id: int) -> tuple[SSHRule, ...]:
        return self.ssh.of(self._roster.slot(node_id))

    def check_period(self, source_id: int, destination_id: int, login: str) -> int | None:
        """How long an approval of this login lasts, in nanoseconds; None: no rule asks for a check."""
        return self.ssh.check_period(self._roster.slot(source_id), self._roster.slot(destination_id), login)

    def capabilities(self, node_id: int) -> CapMap:
        return self.node_capabilities.of(self._roster.slot(node_id))

    def peer_capabilities(self, peer_id: int) -> CapMap:
        return self.node_capabilities.of_peer(self._network.nodes[peer_id])

    def addresses(self, node_id: int) -> tuple[ranges.Address, ...]:
        """A node's own addresses in everybody's view."""
        addresses = self._network.nodes[node_id].addresses
        if self.node_capabilities.without_ipv4(self._roster.slot(node_id)):
            return tuple(address for address in addresses if address.version == 6)
        return addresses

    def peer_addresses(self, viewer_id: int, peer_id: int) -> tuple[ranges.Address, ...]:
        addresses = self.addresses(peer_id)
        if self.node_capabilities.without_ipv4(self._roster.slot(viewer_id)):
            return tuple(address for address in addresses if address.version == 6)
        return addresses

    def only_v6(self, node_id: int) -> bool:
        """Whether nobody is told the node's IPv4 address, nor it anybody else's."""
        return self.node_capabilities.without_ipv4(self._roster.slot(node_id))

    def address_pools(self, node: Node) -> tuple[ranges.Block, ...]:
        """Where a joining node's addresses come from; it need not be part of the mesh yet."""
        return tuple(
            pool
            for entry in self.document.node_attributes
            if any(self._compiled.resolver.concerns(one, node) for one in entry.targets)
            for pool in entry.pools
        )

    @property
    def approvals(self) -> Approvals:
        return Approvals(self.document, self._compiled.resolver)

    @property
    def ssh(self) -> SshRules:
        if self._ssh is None:
            self._ssh = SshRules(self._compiled, self._network.users, self._server_url)
        return self._ssh

    @property
    def node_capabilities(self) -> NodeCapabilities:
        if self._capabilities is None:
            self._capabilities = NodeCapabilities(self._compiled, self._network)
        return self._capabilities

    def _primaries(self) -> Mapping[Prefix, int]:
        if self._network.primaries is None:
            self._network = replace(self._network, primaries=elect_oldest(self._network.nodes))
        assert self._network.primaries is not None
        return self._network.primaries

    def _peer_routes(self) -> PeerRoutes:
        if self._routes is None:
            self._routes = PeerRoutes(self._compiled, self._primaries())
        return self._routes

    def renewed(self, network: Network, filters: Mapping[int, Filter]) -> PolicyIndex:
        """Answers for the state the rules were brought to, keeping filters that still hold."""
        return PolicyIndex(self._compiled, network, self._server_url, filters)

    @property
    def built_filters(self) -> Mapping[int, Filter]:
        """The filters asked for so far."""
        return MappingProxyType(self._filters)


def build_index(document: Document, network: Network, server_url: str = "") -> PolicyIndex:
    """Compile a document against all nodes."""
    compiled = Compiled(document, Roster(network.nodes), network.users)
    return PolicyIndex(compiled, network, server_url, {})
