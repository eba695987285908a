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


@dataclass(frozen=True)
class Change:
    """Nodes to send whole or patched (a node that is gone is reported as removed), and map-wide parts."""

    nodes: frozenset[int] = frozenset()
    selves: frozenset[int] = frozenset()
    """Nodes whose own view changed: they are sent themselves and their packet filter."""
    patches: Mapping[int, Patch] = field(default_factory=lambda: _NO_PATCHES)
    derp_map: bool = False
    dns: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self.nodes or self.selves or self.patches or self.derp_map or self.dns)

    def touches(self, node: int) -> bool:
        """Whether the change is about this node itself."""
        return node in self.nodes or node in self.selves or node in self.patches

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
    return Change(
        nodes=nodes,
        selves=first.selves | second.selves,
        patches=patches,
        derp_map=first.derp_map or second.derp_map,
        dns=first.dns or second.dns,
    )


def merge_all(changes: Iterable[Change]) -> Change:
    """All changes as one."""
    total = NOTHING
    for change in changes:
        total = merge(total, change)
    return total
