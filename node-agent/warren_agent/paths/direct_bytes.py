"""Bytes that travelled directly: what WireGuard counts for a peer beyond what relays carried. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from warren_wire.keys import NodePublic


@dataclass(slots=True)
class _Seen:
    counter: int
    beyond: int


class DirectBytes:
    """One direction, all peers. `total` never goes back.

    A relayed packet is counted here and in WireGuard at different moments, so only a new highest difference
    of the two is direct traffic.
    """

    def __init__(self) -> None:
        self.total = 0
        self._peers: dict[NodePublic, _Seen] = {}

    def observe(self, key: NodePublic, counter: int, relayed: int) -> None:
        """`counter` is WireGuard's, `relayed` ours, both in bytes of this peer."""
        beyond = counter - relayed
        seen = self._peers.get(key)
        # A counter that went back belongs to a peer that was made anew.
        if seen is None or counter < seen.counter:
            self._peers[key] = _Seen(counter, beyond)
            return
        seen.counter = counter
        if beyond > seen.beyond:
            self.total += beyond - seen.beyond
            seen.beyond = beyond

    def forget(self, key: NodePublic) -> None:
        self._peers.pop(key, None)
