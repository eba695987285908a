"""What WireGuard's byte counters say about a peer: is there traffic, and does any come back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HOUSEKEEPING_BYTES: Final = frozenset({0, 32, 92, 124, 148, 180, 240, 272})
"""A keepalive (32), a handshake answer (92), an initiation (148) and their sums: no traffic of anybody's."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The counters at one poll. `relayed_in` counts packets that relays brought for the peer."""

    rx_bytes: int
    tx_bytes: int
    relayed_in: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """What happened between two polls."""

    active: bool
    heard_directly: bool
    silent: bool


def between(old: Counts, new: Counts) -> Traffic:
    """Counters that went back belong to a peer that was made anew: no traffic."""
    sent, received = new.tx_bytes - old.tx_bytes, new.rx_bytes - old.rx_bytes
    if sent < 0 or received < 0:
        return Traffic(active=False, heard_directly=False, silent=False)
    return Traffic(
        active=sent not in HOUSEKEEPING_BYTES or received not in HOUSEKEEPING_BYTES,
        heard_directly=received > 0 and new.relayed_in == old.relayed_in,
        silent=sent not in HOUSEKEEPING_BYTES and received == 0,
    )
