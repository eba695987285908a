"""Keeps what nodes may be shown in step with the snapshot. Owned by the one writer."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network

from warren_control.changes import Change, merge
from warren_control.enforcement.approvals import approved_routes
from warren_control.enforcement.comparison import compared
from warren_control.enforcement.consequences import consequences
from warren_control.enforcement.joining import PolicyTagOwners, address_pools
from warren_control.enforcement.network import followed, network_of
from warren_control.enforcement.policy_views import UNKNOWN_BEFORE, KnownBefore, PolicyViews
from warren_control.model import Node, Snapshot
from warren_control.netmap.views import OpenViews, Views
from warren_control.policy.document import Document
from warren_control.policy.index import PolicyIndex, build_index
from warren_control.policy.live import LivePolicy
from warren_control.policy.load import NO_POLICY
from warren_control.policy.network import Network
from warren_control.relaymap import NO_POLICY_RELAYS, policy_relays
from warren_control.routes import Prefix
from warren_control.tag_requests import TagOwners

logger = logging.getLogger(__name__)


class Enforcer:
    """The policy in force, if there is one, and the views that follow from it."""

    def __init__(self, snapshot: Snapshot, server_url: str = "") -> None:
        self.views: Views = OpenViews(snapshot)
        self._server_url = server_url
        self._live: LivePolicy | None = None
        self._network: Network | None = None
        self._before = UNKNOWN_BEFORE
        self.relays = NO_POLICY_RELAYS
        """What the policy asks for in the relay map."""

    @property
    def index(self) -> PolicyIndex | None:
        """Answers of the policy in force; void after the next change."""
        return None if self._live is None else self._live.index

    @property
    def document(self) -> Document:
        return NO_POLICY if self._live is None else self._live.index.document

    @property
    def tag_owners(self) -> TagOwners | None:
        """Who may give machines tags; None without a policy."""
        return None if self._live is None else PolicyTagOwners(self._live.index)

    def address_pools(self, owner: int, tags: Collection[str]) -> tuple[IPv4Network, ...]:
        """Where the address of a new machine comes from; empty: from anywhere."""
        return () if self._live is None else address_pools(self._live.index, owner, tags)

    def network(self, snapshot: Snapshot, document: Document, *, attributes: bool = False) -> Network:
        """What a document is compiled against."""
        asked = attributes or _asks_nodes(document)
        return network_of(snapshot, document.domains, attributes=asked)

    def compile(self, document: Document, snapshot: Snapshot) -> LivePolicy:
        """A document bound to a snapshot. Pure, and slow enough for a thread of its own."""
        return LivePolicy(build_index(document, self.network(snapshot, document), self._server_url))

    def follow(self, snapshot: Snapshot, touched: Collection[int], change: Change) -> Change:
        """Take another snapshot over, in which some nodes differ; what follows for whom."""
        former = self.views.snapshot
        if self._live is None:
            self.views = OpenViews(snapshot)
            return Change(filters=change.selves)
        follows = self._followed(self._live, former, snapshot, touched)
        self.views = self._views_of(snapshot)
        return follows

    def _followed(
        self, live: LivePolicy, former: Snapshot, snapshot: Snapshot, touched: Collection[int]
    ) -> Change:
        assert self._network is not None
        document = live.index.document
        network = followed(self._network, former, snapshot, touched, attributes=_asks_nodes(document))
        if network is self._network:
            return Change()
        try:
            changes = live.update(network)
        except Exception:
            # Nobody must be left with rules of a state that is gone: all is made anew and told to all.
            logger.exception("The policy could not follow a change; it is compiled anew")
            self.put(self.compile(document, snapshot), snapshot)
            return everything(snapshot)
        self._network = network
        return consequences(changes, live.index, new={one for one in touched if one not in former.nodes})

    def put(self, live: LivePolicy | None, snapshot: Snapshot) -> None:
        """From now on this one is in force."""
        self._live = live
        self._network = None if live is None else live.index.network
        self.relays = NO_POLICY_RELAYS if live is None else policy_relays(live.index.document.derp_map)
        if live is None:
            self._before = UNKNOWN_BEFORE
        elif self.views.uniform:
            self._before = KnownBefore(snapshot.next_node_id, frozenset(live.index.network.nodes))
        self.views = self._views_of(snapshot)

    def _views_of(self, snapshot: Snapshot) -> Views:
        if self._live is None:
            return OpenViews(snapshot)
        return PolicyViews(snapshot, self._live.index, self._before)

    def difference(self, live: LivePolicy | None, nodes: Iterable[int]) -> Change:
        """What another policy over the same snapshot means for some nodes."""
        snapshot = self.views.snapshot
        old, new = self._live or self.compile(NO_POLICY, snapshot), live or self.compile(NO_POLICY, snapshot)
        told = frozenset(nodes)
        change = compared(old.index, new.index, told)
        if self._live is None or live is None:
            change = merge(change, Change(selves=told, filters=told))
        return change

    def check_period(self, source: int, destination: int, login: str) -> int | None:
        """How long an SSH approval lasts, in nanoseconds; None: no rule asks for a check."""
        index = self.index
        if index is None or not {source, destination} <= index.network.nodes.keys():
            return None
        return index.check_period(source, destination, login)

    def approved(self, node: Node, advertised: Iterable[Prefix]) -> frozenset[Prefix]:
        """The routes that the policy approves by itself."""
        return approved_routes(self._live, node, advertised)


def everything(snapshot: Snapshot) -> Change:
    """Everybody is told everything."""
    nodes = frozenset(snapshot.nodes)
    return Change(selves=nodes, filters=nodes, ssh=nodes, afresh=nodes)


def _asks_nodes(document: Document) -> bool:
    """Whether it matters what nodes tell of themselves; if not, another client version recompiles nothing."""
    return bool(document.postures)
