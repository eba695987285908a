"""Ends connections to the embedded relay whose nodes are no members any more. Looks only at what changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from warren_control.api.public import may_use_relays
from warren_control.model import Node, Snapshot
from warren_control.store import Store
from warren_wire.keys import NodePublic

logger = logging.getLogger(__name__)


class Relay(Protocol):
    """What can be told to let somebody go."""

    def disconnect(self, key: NodePublic, /) -> int: ...


class RelayGuard:
    """Tell it of changed nodes and of those whose time is over."""

    def __init__(self, relay: Relay, store: Store, clock: Callable[[], datetime]) -> None:
        self._relay = relay
        self._store = store
        self._clock = clock

    def changed(self, before: Snapshot, nodes: Sequence[Node]) -> None:
        """These differ from `before`, or are gone; a key that was replaced is no member's either."""
        old = (before.nodes.get(node.id) for node in nodes)
        self._look(node.node_key for node in (*nodes, *(each for each in old if each is not None)))

    def expired(self, nodes: Sequence[int]) -> None:
        known = self._store.snapshot.nodes
        self._look(known[number].node_key for number in nodes if number in known)

    def _look(self, keys: Iterable[NodePublic]) -> None:
        now = self._clock()
        for key in set(keys):
            if not may_use_relays(self._store, key, now) and self._relay.disconnect(key):
                logger.info("no member any more, relay connection closed", extra={"peer": key.short()})
