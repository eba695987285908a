"""Writes WireGuard's endpoints: the latest wish per peer, one write at a time, in order."""

from __future__ import annotations

import asyncio
import logging

from warren_agent.kernel.interfaces import WireGuard, WireGuardError
from warren_agent.paths.counters import TransportCounters
from warren_wire.addresses import AddrPort
from warren_wire.keys import NodePublic

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 0.3
"""What WireGuard reports so soon after a write may be older than the write."""


class EndpointWriter:
    """A failed write is not repeated here: the poll sees the difference and asks again."""

    def __init__(self, wireguard: WireGuard, counters: TransportCounters) -> None:
        self._wireguard = wireguard
        self._counters = counters
        self._wanted: dict[NodePublic, AddrPort] = {}
        self._written_at: dict[NodePublic, float] = {}
        self._wake = asyncio.Event()

    def write(self, peer: NodePublic, endpoint: AddrPort) -> None:
        self._wanted[peer] = endpoint
        self._wake.set()

    def settled(self, peer: NodePublic, now: float) -> bool:
        """Whether what WireGuard reports for this peer can be believed."""
        return peer not in self._wanted and now - self._written_at.get(peer, -1.0) >= SETTLE_SECONDS

    def forget(self, peer: NodePublic) -> None:
        self._wanted.pop(peer, None)
        self._written_at.pop(peer, None)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                peer, endpoint = next(iter(self._wanted.items()))
                try:
                    await self._wireguard.set_endpoint(peer, endpoint)
                    self._counters.endpoint_writes += 1
                except WireGuardError as error:
                    self._counters.endpoint_write_errors += 1
                    logger.debug("endpoint not written", extra={"peer": peer.short(), "reason": str(error)})
                self._written_at[peer] = loop.time()
                if self._wanted.get(peer) == endpoint:
                    del self._wanted[peer]
