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
    nodes = set(changes.routers | changes.addresses)
    afresh = set(changes.addresses)
    recheck: dict[int, set[int]] = {}
    for number, change in changes.peers.items():
        nodes.add(number)
        if number not in new:
            afresh.add(number)
        # Those who gained it hear of it as of everything they see that changed.
        for viewer in change.lost:
            recheck.setdefault(viewer, set()).add(number)
    routers = [one for one, node in index.network.nodes.items() if node.routes] if changes.viewers else []
    for viewer in changes.viewers.difference(afresh, new):
        if routers:
            recheck.setdefault(viewer, set()).update(one for one in routers if index.sees(viewer, one))
    afresh |= {viewer for viewer, peers in recheck.items() if len(peers) > MAX_RECHECKED}
    return Change(
        nodes=frozenset(nodes),
        selves=changes.capabilities | changes.addresses,
        filters=changes.filters.difference(new),
        ssh=changes.ssh.difference(new),
        afresh=frozenset(afresh & index.network.nodes.keys()),
        recheck={one: frozenset(peers) for one, peers in recheck.items() if one not in afresh},
    )
