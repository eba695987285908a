"""Routes that a policy approves by itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from warren_control import routes
from warren_control.enforcement.network import node_of
from warren_control.model import Node, Snapshot
from warren_control.policy.live import LivePolicy
from warren_control.routes import Prefix

_NONE: Final[frozenset[Prefix]] = frozenset()


def approved_routes(live: LivePolicy | None, node: Node, advertised: Iterable[Prefix]) -> frozenset[Prefix]:
    """The advertised routes that need nobody's decision."""
    return _NONE if live is None else live.index.approvals.approved(node_of(node), advertised)


def with_approvals(node: Node, added: Iterable[Prefix]) -> Node:
    """The node with more routes approved. No approval is ever withdrawn by a policy."""
    approved = {*node.approved_routes, *added}
    if approved == set(node.approved_routes):
        return node
    return replace(node, approved_routes=routes.ordered(approved))


def approved_anew(live: LivePolicy | None, snapshot: Snapshot) -> tuple[Node, ...]:
    """Nodes with routes that are approved from now on."""
    announcing = (node for node in snapshot.nodes.values() if node.advertised_routes)
    pairs = (
        (node, with_approvals(node, approved_routes(live, node, node.advertised_routes)))
        for node in announcing
    )
    return tuple(after for before, after in pairs if after is not before)
