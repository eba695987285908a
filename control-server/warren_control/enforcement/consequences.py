"""From what a change of the mesh means to a policy, to whom is told what. Pure."""

from __future__ import annotations

from collections.abc import Collection

from warren_control.changes import MAX_RECHECKED, Change
from warren_control.policy.index import PolicyIndex
from warren_control.policy.updates import Changes


def consequences(changes: Changes, index: PolicyIndex, new: Collection[int] = ()) -> Change:
    """What nodes are told beside what `difference` says of a node that changed.

    Nodes that are `new` have been told nothing yet: their streams begin with everything.
    """
    nodes = {*changes.routers, *changes.addresses, *changes.peers}
    afresh = {*changes.addresses, *changes.peers}
    recheck: dict[int, set[int]] = {}
    for number, change in changes.peers.items():
        # Those who gained it hear of it as of everything they see that changed.
        for viewer in change.lost:
            recheck.setdefault(viewer, set()).add(number)
    routers = [one for one, node in index.network.nodes.items() if node.routes] if changes.viewers else []
    for viewer in changes.viewers.difference(afresh):
        for router in routers:
            if index.sees(viewer, router):
                recheck.setdefault(viewer, set()).add(router)
    afresh |= {viewer for viewer, peers in recheck.items() if len(peers) > MAX_RECHECKED}
    told = index.network.nodes.keys() - frozenset(new)
    return Change(
        nodes=frozenset(nodes),
        selves=(changes.capabilities | changes.addresses) & told,
        filters=changes.filters & told,
        ssh=changes.ssh & told,
        afresh=frozenset(afresh & told),
        recheck={one: frozenset(peers) for one, peers in recheck.items() if one in told - afresh},
    )
