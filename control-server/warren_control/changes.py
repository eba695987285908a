"""What a connected node has yet to be told. Pure values that merge, so that a burst becomes one message.

A change names what it touches, never the new values: those are read from the snapshot at the moment the
message is built, which is why pending changes collapse by themselves.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Final


class Patch(enum.Flag):
    """Fields of a peer that can be sent alone; everything else needs the whole node."""

    ENDPOINTS = enum.auto()
    HOME = enum.auto()
    DISCO = enum.auto()
    KEY = enum.auto()
    ONLINE = enum.auto()
    VERSION = enum.auto()


_NO_PATCHES: Final[Mapping[int, Patch]] = MappingProxyType({})
_NO_PEERS: Final[Mapping[int, frozenset[int]]] = MappingProxyType({})
# Beyond this many peers to look at again a viewer is sent all it sees: no more work, and it is bounded.
MAX_RECHECKED: Final = 256


@dataclass(frozen=True)
class Change:
    """Nodes to send whole or patched (a node that is gone is reported as removed), and map-wide parts."""

    nodes: frozenset[int] = frozenset()
    selves: frozenset[int] = frozenset()
    """Nodes that are sent themselves."""
    patches: Mapping[int, Patch] = field(default_factory=lambda: _NO_PATCHES)
    filters: frozenset[int] = frozenset()
    """Nodes that are sent their packet filter."""
    ssh: frozenset[int] = frozenset()
    """Nodes that are sent their SSH policy."""
    afresh: frozenset[int] = frozenset()
    """Nodes that are sent all the peers they see, which replaces those they knew."""
    recheck: Mapping[int, frozenset[int]] = field(default_factory=lambda: _NO_PEERS)
    """For a node, peers it may see newly, otherwise or no longer: each is sent whole or as removed."""
    derp_map: bool = False
    dns: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        shared = self.nodes or self.patches or self.derp_map or self.dns
        own = self.selves or self.filters or self.ssh or self.afresh or self.recheck
        return not (shared or own)

    def touches(self, node: int) -> bool:
        """Whether the change is about this node itself."""
        return node in self.nodes or node in self.patches or self.is_own(node)

    def is_own(self, node: int) -> bool:
        """Whether this node is told something that others are not."""
        return (
            node in self.selves
            or node in self.filters
            or node in self.ssh
            or node in self.afresh
            or node in self.recheck
        )

    @cached_property
    def key(self) -> tuple[object, ...]:
        """Hashable identity of what receivers share that the change is not about."""
        return (self.nodes, frozenset(self.patches.items()), self.derp_map, self.dns)


NOTHING: Final = Change()


def whole(*nodes: int) -> Change:
    """Send these nodes whole to their peers."""
    return Change(nodes=frozenset(nodes))


def whole_and_self(*nodes: int) -> Change:
    """Send these nodes whole to their peers and to themselves."""
    return Change(nodes=frozenset(nodes), selves=frozenset(nodes))


def patched(node: int, patch: Patch) -> Change:
    """Send these fields of one node."""
    return Change(patches={node: patch})


def merge(first: Change, second: Change) -> Change:
    """Both changes as one; a whole node swallows its patches."""
    if first.empty:
        return second
    if second.empty:
        return first
    nodes = first.nodes | second.nodes
    patches = {node: patch for node, patch in first.patches.items() if node not in nodes}
    for node, patch in second.patches.items():
        if node not in nodes:
            patches[node] = patches.get(node, Patch(0)) | patch
    afresh = first.afresh | second.afresh
    recheck, too_many = _rechecked(first.recheck, second.recheck, afresh)
    return Change(
        nodes=nodes,
        selves=first.selves | second.selves,
        patches=patches,
        filters=first.filters | second.filters,
        ssh=first.ssh | second.ssh,
        afresh=afresh | too_many,
        recheck=recheck,
        derp_map=first.derp_map or second.derp_map,
        dns=first.dns or second.dns,
    )


def _rechecked(
    first: Mapping[int, frozenset[int]], second: Mapping[int, frozenset[int]], afresh: frozenset[int]
) -> tuple[Mapping[int, frozenset[int]], frozenset[int]]:
    """Both, without viewers that are sent everything, and the viewers for whom it became too much."""
    if not first and not second:
        return _NO_PEERS, frozenset()
    found = {viewer: peers for viewer, peers in first.items() if viewer not in afresh}
    too_many = set()
    for viewer, peers in second.items():
        if viewer in afresh:
            continue
        together = found[viewer] | peers if viewer in found else peers
        if len(together) > MAX_RECHECKED:
            too_many.add(viewer)
            found.pop(viewer, None)
        else:
            found[viewer] = together
    return found, frozenset(too_many)


def merge_all(changes: Iterable[Change]) -> Change:
    """All changes as one."""
    total = NOTHING
    for change in changes:
        total = merge(total, change)
    return total
