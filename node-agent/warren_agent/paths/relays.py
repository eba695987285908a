"""Which relay region leads to which peer. Pure.

Normally the peer's home region. Where the peer reached us through a region that we are connected to while
we are not connected to its home, that region is as good and costs no new connection.
"""

from __future__ import annotations

from warren_wire.keys import NodePublic


class RelayRoutes:
    """Learned routes, and which regions are connected."""

    def __init__(self) -> None:
        self._connected: set[int] = set()
        self._learned: dict[NodePublic, int] = {}

    def connected(self, region: int) -> None:
        self._connected.add(region)

    def disconnected(self, region: int) -> None:
        """The connection broke; every route learned on it is worthless."""
        self._connected.discard(region)
        for key in [key for key, learned in self._learned.items() if learned == region]:
            del self._learned[key]

    def heard(self, key: NodePublic, region: int) -> None:
        """The peer reached us through `region`."""
        self._learned[key] = region

    def gone(self, key: NodePublic, region: int) -> None:
        """The relay says that the peer is not there."""
        if self._learned.get(key) == region:
            del self._learned[key]

    def keep_only(self, keys: set[NodePublic]) -> None:
        for key in [key for key in self._learned if key not in keys]:
            del self._learned[key]

    def region_for(self, key: NodePublic, home: int) -> int:
        """The region to send through; 0 if the peer has no home and was never heard."""
        if home and home in self._connected:
            return home
        learned = self._learned.get(key, 0)
        if learned in self._connected:
            return learned
        return home
