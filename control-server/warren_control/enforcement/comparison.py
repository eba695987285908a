"""What another policy over the same mesh changes for each node. Pure."""

from __future__ import annotations

from collections.abc import Collection

from warren_control.changes import MAX_RECHECKED, Change
from warren_control.policy.index import PolicyIndex


def compared(old: PolicyIndex, new: PolicyIndex, nodes: Collection[int]) -> Change:
    """What these nodes must be told when the one takes the place of the other."""
    known = [one for one in sorted(nodes) if one in old.network.nodes and one in new.network.nodes]
    routers = [one for one, node in sorted(new.network.nodes.items()) if node.routes]
    moved = {one for one in new.network.nodes if one in old.network.nodes and _moved(old, new, one)}
    afresh: set[int] = set()
    recheck: dict[int, frozenset[int]] = {}
    for one in known:
        if one in moved or abs(old.peer_count(one) - new.peer_count(one)) > MAX_RECHECKED:
            afresh.add(one)
            continue
        before, after = old.peers(one), new.peers(one)
        peers = (before ^ after) | (moved & after)
        peers |= {
            router
            for router in routers
            if router != one
            and router in before
            and router in after
            and old.peer_routes(one, router) != new.peer_routes(one, router)
        }
        if len(peers) > MAX_RECHECKED:
            afresh.add(one)
        elif peers:
            recheck[one] = peers
    return Change(
        selves=frozenset(
            one for one in known if one in moved or old.capabilities(one) != new.capabilities(one)
        ),
        filters=frozenset(one for one in known if old.filter(one) != new.filter(one)),
        ssh=frozenset(one for one in known if old.ssh_rules(one) != new.ssh_rules(one)),
        afresh=frozenset(afresh),
        recheck=recheck,
    )


def _moved(old: PolicyIndex, new: PolicyIndex, node: int) -> bool:
    """Whether a node has other addresses in the views of others, and sees those of others otherwise."""
    return old.only_v6(node) != new.only_v6(node)
