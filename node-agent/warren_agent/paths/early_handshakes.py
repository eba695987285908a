"""Handshakes of peers that came by relay before the network map or WireGuard knew the peer. Pure.

A node that has just joined sends at once, and its peers hear of it a moment later. WireGuard at the other
end sends its next initiation only after 5 s (REKEY_TIMEOUT), so the first one is worth keeping.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from warren_wire.keys import NodePublic

INITIATION: Final = b"\x01\x00\x00\x00"
INITIATION_BYTES: Final = 148
KEPT_SECONDS: Final = 5.0
"""Older ones are repeated by their sender."""

MAX_PEERS: Final = 64
"""Relays let in members only; what is here beyond that is no mesh that grows."""


class EarlyHandshakes:
    """The last initiation of each of a few peers."""

    def __init__(self) -> None:
        self._kept: OrderedDict[NodePublic, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: NodePublic, packet: bytes, now: float) -> bool:
        """Whether it is an initiation, and kept."""
        if len(packet) != INITIATION_BYTES or not packet.startswith(INITIATION):
            return False
        self._kept.pop(key, None)
        self._kept[key] = (now, packet)
        if len(self._kept) > MAX_PEERS:
            self._kept.popitem(last=False)
        return True

    def take(self, key: NodePublic, now: float) -> bytes | None:
        """The kept one of a peer that WireGuard knows now; it is forgotten here."""
        kept_at, packet = self._kept.pop(key, (0.0, None))
        return packet if now - kept_at <= KEPT_SECONDS else None
