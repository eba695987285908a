"""Reads WireGuard's counters and endpoints again and again, and tells the path machine what they mean.

The kernel announces neither handshakes nor endpoint changes, so there is nothing to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from warren_agent.kernel.interfaces import PeerStats, WireGuard, WireGuardError
from warren_agent.paths.direct_bytes import DirectBytes
from warren_agent.paths.machine import PathMachine
from warren_agent.paths.traffic import Counts, between
from warren_agent.transport.endpoints import EndpointWriter
from warren_agent.transport.records import PeerRecord
from warren_wire.addresses import AddrPort
from warren_wire.keys import NodePublic

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
BUSY_POLL_SECONDS: Final = 0.5
"""While packets flow: how soon silence on a direct path is noticed."""

IDLE_POLL_SECONDS: Final = 3.0
"""While nothing flows: the first packet for a peer is seen at its loopback endpoint, not here."""

BUSY_POLL_MAX_PEERS: Final = 300
"""A dump of many peers twice a second would cost more than it gives."""


class WireGuardWatch:
    """`done` is called after each read, when the machine has been told everything."""

    def __init__(
        self,
        *,
        wireguard: WireGuard,
        machine: PathMachine,
        writer: EndpointWriter,
        loopback_endpoint: Callable[[NodePublic], AddrPort],
        relayed: Callable[[NodePublic], PeerRecord],
        on_handshake: Callable[[NodePublic], None],
        on_new: Callable[[NodePublic], None],
        done: Callable[[], None],
    ) -> None:
        """`relayed` has what relays carried for a peer so far. `on_handshake` is called
        for each new session with a peer, `on_new` for each peer that WireGuard did not have before."""
        self._wireguard = wireguard
        self._machine = machine
        self._writer = writer
        self._loopback_endpoint = loopback_endpoint
        self._relayed = relayed
        self.direct_received = DirectBytes()
        self.direct_sent = DirectBytes()
        self._on_handshake = on_handshake
        self._on_new = on_new
        self._done = done
        self._handshakes: dict[NodePublic, int] = {}
        self._counts: dict[NodePublic, Counts] = {}
        self._look = asyncio.Event()
        self._failing = False
        self._idle = False

    def look(self) -> None:
        """Read at once."""
        self._look.set()

    def stir(self) -> None:
        """Packets were seen elsewhere: the pause of an idle device is over."""
        if self._idle:
            self._idle = False
            self._look.set()

    def forget(self, key: NodePublic) -> None:
        self._counts.pop(key, None)
        self._handshakes.pop(key, None)
        self.direct_received.forget(key)
        self.direct_sent.forget(key)

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._read()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_seconds()):
                    await self._look.wait()
            self._look.clear()

    def _pause_seconds(self) -> float:
        self._idle = not self._machine.is_active(time.monotonic())
        if self._idle:
            return IDLE_POLL_SECONDS
        return BUSY_POLL_SECONDS if len(self._counts) <= BUSY_POLL_MAX_PEERS else POLL_SECONDS

    async def _read(self) -> None:
        try:
            found = await self._wireguard.peers()
        except WireGuardError as error:
            if not self._failing:
                logger.warning("WireGuard cannot be read", extra={"reason": str(error)})
            self._failing = True
            return
        self._failing = False
        now = time.monotonic()
        for key, stats in found.items():
            if key in self._machine:
                self._observe(key, stats, now)
        self._done()

    def _observe(self, key: NodePublic, stats: PeerStats, now: float) -> None:
        path = self._machine.peer(key)
        assert path is not None
        relayed = self._relayed(key)
        self.direct_received.observe(key, stats.rx_bytes, relayed.relay_rx_bytes)
        self.direct_sent.observe(key, stats.tx_bytes, relayed.relay_tx_bytes)
        new = Counts(stats.rx_bytes, stats.tx_bytes, relayed.relay_rx_packets)
        old = self._counts.get(key)
        self._counts[key] = new
        # Wall-clock time: only that it changed means something.
        if self._handshakes.get(key, 0) != stats.last_handshake_unix_ns:
            self._handshakes[key] = stats.last_handshake_unix_ns
            if old is not None:
                self._on_handshake(key)
        endpoint = stats.endpoint
        stand_in = endpoint is None or endpoint.ip.is_loopback
        if old is None and not stand_in and endpoint is not None:
            self._machine.adopt(key, endpoint, now)
        if old is None and stand_in:
            self._on_new(key)
        if old is not None and new != old:
            traffic = between(old, new)
            if traffic.active:
                self._machine.activity(key, now)
            if traffic.heard_directly and endpoint == path.wanted():
                self._machine.heard(key, now)
            elif traffic.silent and path.wanted() is not None:
                self._machine.silent(key, now)
        if not self._writer.settled(key, now):
            return
        if stand_in and path.wanted() is None:
            if endpoint != self._loopback_endpoint(key):
                self._writer.write(key, self._loopback_endpoint(key))
            return
        self._machine.observe_endpoint(key, None if stand_in else endpoint, now)
