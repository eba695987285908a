"""Which loopback address stands for which relayed peer. Pure.

A distinct *address* per peer, not only a port: WireGuard limits handshakes per source address when it is
under load.
"""

from __future__ import annotations

from hashlib import blake2s
from ipaddress import IPv4Address
from typing import Final

from warren_wire.keys import NodePublic

BASE: Final = int(IPv4Address("127.64.0.0"))
"""Half of 127/8, away from the resolvers and daemons that settle near 127.0.0.0 and from 127.128.0.0 up."""

SIZE: Final = 1 << 22


class LoopbackAddresses:
    """Addresses derived from keys, so that a restarted agent gives every peer the one it had.

    Two keys with the same address are told apart by the next free one for the later comer; after a restart
    they may have changed places, which the first look at WireGuard's endpoints repairs.
    """

    def __init__(self) -> None:
        self._by_key: dict[NodePublic, IPv4Address] = {}
        self._by_offset: dict[int, NodePublic] = {}

    def of(self, key: NodePublic) -> IPv4Address:
        known = self._by_key.get(key)
        if known is not None:
            return known
        offset = natural_offset(key)
        while offset in self._by_offset:
            offset = offset % (SIZE - 2) + 1
        self._by_offset[offset] = key
        address = self._by_key[key] = IPv4Address(BASE + offset)
        return address

    def key_of(self, packed: bytes) -> NodePublic | None:
        """The peer that a packed address stands for."""
        return self._by_offset.get(int.from_bytes(packed, "big") - BASE)

    def keep_only(self, keys: set[NodePublic]) -> None:
        """Forget the peers that are gone."""
        for key in [key for key in self._by_key if key not in keys]:
            del self._by_offset[int(self._by_key.pop(key)) - BASE]


def natural_offset(key: NodePublic) -> int:
    digest = blake2s(key.raw, digest_size=4).digest()
    return int.from_bytes(digest, "big") % (SIZE - 2) + 1
