"""What each node may be shown under a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from warren_control.model import Node, Snapshot
from warren_control.netmap.views import PLAIN, CapMap, PeerView
from warren_control.policy.index import PolicyIndex
from warren_wire.control.messages import FilterRule

_NONE: Final[CapMap] = {}


@dataclass(frozen=True, slots=True)
class KnownBefore:
    """The nodes there were when a first policy came: until then everybody knew everybody."""

    next_id: int
    nodes: frozenset[int]

    def had_gone(self, node: int) -> bool:
        """Whether the node went before, so that some may have yet to hear of it."""
        return node < self.next_id and node not in self.nodes


UNKNOWN_BEFORE: Final = KnownBefore(0, frozenset())


class PolicyViews:
    """Of one snapshot, which the index must be up to date with. Disabled nodes are no part of the index."""

    uniform = False

    def __init__(self, snapshot: Snapshot, index: PolicyIndex, before: KnownBefore = UNKNOWN_BEFORE) -> None:
        self.snapshot = snapshot
        self._index = index
        self._before = before

    def known_to_all(self, number: int) -> bool:
        return self._before.had_gone(number)

    def visible(self, viewer: Node) -> list[Node]:
        if viewer.disabled:
            return []
        nodes = self.snapshot.nodes
        return [nodes[number] for number in sorted(self._index.peers(viewer.id))]

    def sees(self, viewer: Node, peer: Node) -> bool:
        # Seeing is mutual; asked from the peer, of which there are few in a change and many viewers.
        return not (viewer.disabled or peer.disabled) and self._index.sees(peer.id, viewer.id)

    def peer(self, viewer: Node, peer: Node) -> PeerView:
        index = self._index
        only_v6 = index.only_v6(viewer.id) or index.only_v6(peer.id)
        if not peer.advertised_routes:
            return PeerView(only_v6=True) if only_v6 else PLAIN
        routes = index.peer_routes(viewer.id, peer.id)
        return PeerView(routes.subnets, routes.exits, only_v6)

    def packet_filter(self, viewer: Node) -> tuple[FilterRule, ...]:
        return () if viewer.disabled else self._index.filter(viewer.id)

    def ssh_rules(self, viewer: Node) -> Sequence[object]:
        return () if viewer.disabled else self._index.ssh_rules(viewer.id)

    def only_v6(self, node: Node) -> bool:
        return not node.disabled and self._index.only_v6(node.id)

    def capabilities(self, node: Node) -> CapMap:
        return _NONE if node.disabled else self._index.capabilities(node.id)

    def peer_capabilities(self, peer: Node) -> CapMap:
        return dict(self._index.peer_capabilities(peer.id)) if peer.advertised_routes else _NONE
