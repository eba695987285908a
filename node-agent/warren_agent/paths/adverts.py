"""Disco keys that peers told us inside the tunnel, ahead of the network map. Pure.

A stock client makes a new disco key at each start. With the control server out of reach its peers learn it
this way alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from warren_agent.paths.values import PathPeer
from warren_wire.keys import DiscoPublic, NodePublic


class DiscoAdverts:
    """An advert holds until the network map says something new about the key."""

    def __init__(self) -> None:
        self._told: dict[NodePublic, tuple[DiscoPublic, DiscoPublic]] = {}

    def heard(self, key: NodePublic, in_map: DiscoPublic, advertised: DiscoPublic) -> bool:
        """Whether the advert is news. A zero key is none."""
        if advertised.is_zero or advertised == self._told.get(key, (in_map, in_map))[1]:
            return False
        self._told[key] = (in_map, advertised)
        return True

    def applied(self, peers: Mapping[NodePublic, PathPeer]) -> dict[NodePublic, PathPeer]:
        """The peers of the network map with the keys that they told."""
        self._told = {
            key: told for key, told in self._told.items() if key in peers and peers[key].disco == told[0]
        }
        changed = {key: dataclasses.replace(peers[key], disco=told) for key, (_, told) in self._told.items()}
        return {**peers, **changed}
