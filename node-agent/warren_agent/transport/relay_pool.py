"""Connections to relay regions: the home region always, others while they are used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from warren_agent.kernel.addresses import is_assigned
from warren_agent.paths.counters import TransportCounters
from warren_agent.transport.relay_dial import RelayDialError, RelayTls
from warren_agent.transport.relay_link import RelayLink, open_link
from warren_runtime.backoff import Backoff
from warren_wire.control.messages import DERPRegion
from warren_wire.derp.client import ClientEvent
from warren_wire.keys import NodePrivate, NodePublic

logger = logging.getLogger(__name__)

IDLE_SECONDS: Final = 60.0
"""A region that is not home is left this long after the last packet sent through it."""

QUEUED_PACKETS: Final = 64
"""Kept while a connection is being made, the oldest dropped first: the first packet is a handshake, and
the next one would come 5 s later."""

PROBE_SECONDS: Final = 3.0

QUIET_SECONDS: Final = 10.0
"""A region that is being sent to and says nothing this long is asked for a sign of life."""

IDLE_QUIET_SECONDS: Final = 75.0
"""The same without traffic: a relay says something each minute by itself."""

SIGN_SECONDS: Final = 5.0
"""How long the sign of life may take; a relay that hangs keeps its TCP connection up."""

MAX_RECONNECT_SECONDS: Final = 5.0

OnEvents = Callable[[int, Sequence[ClientEvent]], None]
OnState = Callable[[int, bool], None]


class RegionClient:
    """One region: connects when wanted, tries its nodes in order, comes back after failures."""

    def __init__(self, region: DERPRegion, pool: RelayPool) -> None:
        self.region = region
        self.link: RelayLink | None = None
        self.is_home = False
        self.last_error = ""
        self.used_at = 0.0
        self._pool = pool
        self._queue: deque[tuple[NodePublic, Sequence[bytes]]] = deque(maxlen=QUEUED_PACKETS)
        self._task: asyncio.Task[None] | None = None

    def send(self, peer: NodePublic, packets: Sequence[bytes]) -> None:
        counters = self._pool.counters
        self.used_at = asyncio.get_running_loop().time()
        if self.link is None:
            if len(self._queue) == QUEUED_PACKETS:
                counters.relay_dropped_congested += len(self._queue[0][1])
            self._queue.append((peer, packets))
            self.want()
        elif self.link.send(peer, packets):
            counters.relay_sent += len(packets)
        else:
            counters.relay_dropped_congested += len(packets)

    def want(self) -> None:
        """Make sure that the connection exists or is being made."""
        if self._task is None or self._task.done():
            self._task = self._pool.spawn(self._run(), f"relay-{self.region.region_id}")

    def set_home(self, is_home: bool) -> None:
        self.is_home = is_home
        if self.link is not None:
            self.link.note_preferred(is_home)
        if is_home:
            self.want()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        backoff = Backoff(0.2, MAX_RECONNECT_SECONDS)
        loop = asyncio.get_running_loop()
        while self._wanted(loop.time()):
            link = await self._connect()
            if link is None:
                await asyncio.sleep(backoff.next_delay_seconds())
                continue
            connected_at = loop.time()
            try:
                await self._serve(link)
            finally:
                self.link = None
                link.abort("not needed any more")
                self._pool.on_state(self.region.region_id, False)
            if loop.time() - connected_at > MAX_RECONNECT_SECONDS:
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next_delay_seconds())

    def _wanted(self, now: float) -> bool:
        return self.is_home or now - self.used_at < IDLE_SECONDS

    async def _connect(self) -> RelayLink | None:
        region = self.region.region_id
        for node in self.region.nodes or ():
            if node.stun_only:
                continue
            try:
                link = await open_link(
                    node,
                    self._pool.tls.plan(node),
                    self._pool.node,
                    mark=self._pool.mark,
                    ipv6=self._pool.ipv6,
                    on_events=lambda events: self._pool.on_events(region, events),
                )
            except RelayDialError as error:
                self._pool.counters.relay_connect_failures += 1
                if str(error) != self.last_error:
                    logger.warning("relay cannot be reached", extra={"relay": region, "reason": str(error)})
                self.last_error = str(error)
                continue
            self.last_error = ""
            self._pool.counters.relay_connects += 1
            return link
        return None

    async def _serve(self, link: RelayLink) -> None:
        region = self.region.region_id
        logger.info("relay connected", extra={"relay": region})
        self.link = link
        link.note_preferred(self.is_home)
        self._pool.on_state(region, True)
        while self._queue:
            peer, packets = self._queue.popleft()
            self.send(peer, packets)
        loop = asyncio.get_running_loop()
        while self._wanted(loop.time()):
            done, _ = await asyncio.wait([link.closed], timeout=self._pool.sign_seconds)
            if done:
                self._pool.counters.relay_disconnects += 1
                logger.info("relay disconnected", extra={"relay": region, "reason": link.closed.result()})
                return
            self._look_for_life(link)

    def _look_for_life(self, link: RelayLink) -> None:
        """Ask a relay that went quiet, and leave it if it does not answer."""
        now = time.monotonic()
        if link.asked_at is not None and link.heard_at < link.asked_at:
            if now - link.asked_at >= self._pool.sign_seconds:
                self._pool.counters.relay_silent += 1
                link.abort("the relay does not answer")
            return
        in_use = self.used_at > 0 and asyncio.get_running_loop().time() - self.used_at < IDLE_SECONDS
        if now - link.heard_at >= (self._pool.quiet_seconds if in_use else IDLE_QUIET_SECONDS):
            link.probe()


class RelayPool:
    """All regions of the relay map. `on_events` and `on_state` get the region id."""

    def __init__(
        self,
        *,
        node: NodePrivate,
        tls: RelayTls,
        mark: int,
        ipv6: bool,
        counters: TransportCounters,
        on_events: OnEvents,
        on_state: OnState,
        quiet_seconds: float = QUIET_SECONDS,
        sign_seconds: float = SIGN_SECONDS,
    ) -> None:
        self.quiet_seconds = quiet_seconds
        self.sign_seconds = sign_seconds
        self.node = node
        self.tls = tls
        self.mark = mark
        self.ipv6 = ipv6
        self.counters = counters
        self.on_events = on_events
        self.on_state = on_state
        self.home = 0
        self._regions: dict[int, RegionClient] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Hold the connections until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            if self.home in self._regions:
                self._regions[self.home].set_home(True)
            await asyncio.get_running_loop().create_future()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Start a task of a region; None before `run`, which starts what is wanted then."""
        if self._group is None:
            work.close()
            return None
        return self._group.create_task(work, name=name)

    def set_regions(self, regions: dict[int, DERPRegion]) -> None:
        """Take a new map; regions that did not change keep their connections."""
        for region_id in list(self._regions):
            if regions.get(region_id) != self._regions[region_id].region:
                self._regions.pop(region_id).stop()
        for region_id, region in regions.items():
            if region_id not in self._regions:
                client = self._regions[region_id] = RegionClient(region, self)
                if region_id == self.home:
                    client.set_home(True)

    def set_home(self, region: int) -> None:
        if region == self.home:
            return
        previous, self.home = self.home, region
        for region_id, client in self._regions.items():
            if region_id in (previous, region):
                client.set_home(region_id == region)

    def send(self, region: int, peer: NodePublic, packets: Sequence[bytes]) -> None:
        """Send through a region, connecting to it if needed; what cannot be sent is dropped and counted."""
        client = self._regions.get(region)
        if client is None:
            self.counters.relay_dropped_no_route += len(packets)
        else:
            client.send(peer, packets)

    def is_connected(self, region: int) -> bool:
        client = self._regions.get(region)
        return client is not None and client.link is not None

    def heard_at(self, region: int) -> float | None:
        """When the last bytes of a connected region came."""
        client = self._regions.get(region)
        return client.link.heard_at if client is not None and client.link is not None else None

    def errors(self) -> dict[int, str]:
        """Why regions that we want cannot be reached."""
        return {region: client.last_error for region, client in self._regions.items() if client.last_error}

    async def probe(self, within_seconds: float = PROBE_SECONDS) -> None:
        """The network changed: every connection must answer in time or is made anew, at once where the
        address that it was made from is gone."""
        began = time.monotonic()
        links = [client.link for client in self._regions.values() if client.link is not None]
        for link in links:
            if link.local is not None and not is_assigned(link.local):
                link.abort("the address that it was made from is gone")
            else:
                link.probe()
        await asyncio.sleep(within_seconds)
        for link in links:
            if link.heard_at < began:
                link.abort("no answer after a network change")
