"""All members as they are sent where everybody sees everybody alike."""

from __future__ import annotations

from datetime import datetime

import msgspec

from warren_control.mappings import differing
from warren_control.model import Node, Snapshot
from warren_control.netmap.peers import Descriptions
from warren_control.netmap.views import Views


class Everybody:
    """Kept from one map to the next: only who changed since is looked at again.

    A thousand nodes that come back after a restart are sent a thousand peers each.
    """

    def __init__(self, descriptions: Descriptions) -> None:
        self._descriptions = descriptions
        self._snapshot = Snapshot()
        self._shown: dict[int, msgspec.Raw] = {}
        """By id, in the order of ids."""
        self._expiries: dict[int, datetime] = {}
        """Of nodes that are not shown as expired yet."""

    def but(self, views: Views, viewer: Node, now: datetime) -> tuple[msgspec.Raw, ...]:
        """All members but the viewer."""
        self._follow(views, now)
        return tuple(raw for number, raw in self._shown.items() if number != viewer.id)

    def _follow(self, views: Views, now: datetime) -> None:
        snapshot, before = views.snapshot, self._snapshot
        again = set(differing(before.nodes, snapshot.nodes))
        if snapshot.primaries is not before.primaries or snapshot.regions is not before.regions:
            # Rare, and what it means to whom is known to the descriptions alone.
            again |= snapshot.nodes.keys()
        if self._expiries and min(self._expiries.values()) <= now:
            again |= {number for number, expiry in self._expiries.items() if expiry <= now}
        in_order = True
        for number in sorted(again):
            node = snapshot.nodes.get(number)
            self._expiries.pop(number, None)
            if node is None or node.disabled:
                self._shown.pop(number, None)
                continue
            if node.expiry is not None and node.expiry > now:
                self._expiries[number] = node.expiry
            in_order = in_order and (number in self._shown or number > next(reversed(self._shown), 0))
            self._shown[number] = self._descriptions.peer(views, node, views.peer(node, node), now)
        if not in_order:
            self._shown = dict(sorted(self._shown.items()))
        self._snapshot = snapshot
