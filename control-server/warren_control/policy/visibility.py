"""Which nodes see each other: a pair does if a rule of either lets one be source and the other destination.

Each node's peers are unions of the node sets of the rules it stands in.
"""

from __future__ import annotations

from warren_control.policy.compiled import Compiled


def visible_peers(compiled: Compiled, slot: int) -> int:
    """The peers of the node in a slot, as a set of slots. Seeing is always mutual."""
    bit = 1 << slot
    peers = 0
    arcs = compiled.arcs
    for number in arcs.as_source.rows_of(slot):
        peers |= arcs.pairs[number][1]
    for number in arcs.as_target.rows_of(slot):
        peers |= arcs.pairs[number][0]
    return (peers | _via_peers(compiled, bit) | _self_peers(compiled, slot)) & ~bit


def _via_peers(compiled: Compiled, bit: int) -> int:
    """Through via rules, which only their holders have."""
    peers = 0
    for rule in compiled.via_rules:
        sources = compiled.sources(rule.sources).reach
        for target in compiled.via_targets(rule):
            # A pair needs the rule on one of its two sides.
            others = -1 if target.holders & bit else target.holders
            if sources & bit:
                peers |= target.visible & others
            if target.visible & bit:
                peers |= sources & others
    return peers


def _self_peers(compiled: Compiled, slot: int) -> int:
    """Through `autogroup:self`, inside the nodes of one user, and routers that reach their addresses."""
    if not compiled.self_sides:
        return 0
    roster = compiled.roster
    bit = 1 << slot
    peers = 0
    owner = roster.node(slot).owner_id
    owners = set(roster.by_owner) if roster.covering(roster.untagged) & bit else set()
    if owner is not None:
        owners.add(owner)
    for user_id in owners:
        own = roster.by_owner[user_id]
        reach = own | roster.covering(own)
        for side in compiled.self_sides:
            chosen = compiled.sources(side).direct & own
            sources = chosen | roster.covering(chosen)
            others = -1 if own & bit else own
            if sources & bit:
                peers |= reach & others
            if reach & bit:
                peers |= sources & others
    return peers
