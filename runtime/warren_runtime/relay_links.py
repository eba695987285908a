"""Links from this relay to the others of its region, and between the workers of one relay.

Each link is an ordinary DERP connection that proves membership by the mesh key, watches the other's clients
and carries packets to them. A lost link takes the clients behind it away and is dialled again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from warren_wire.derp.client import ClientEvent, DerpClient, PeerGone, PeerPresent, Ready
from warren_wire.derp.router import ConnectionId, Kind
from warren_wire.errors import RemoteProtocolError

from .backoff import Backoff
from .derp_connection import HIGH_WATER_BYTES, LOW_WATER_BYTES, WRITE_BYTES
from .derp_server import DerpService

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 120.0
"""Relays send a keep-alive each minute."""
STALL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Another relay (`host`) of the region, or a worker (`path` of its socket). The name is for logs."""

    name: str
    host: str = ""
    port: int = 443
    path: str = ""

    @property
    def kind(self) -> Kind:
        return Kind.SIBLING if self.path else Kind.REGION


class OwnRelayError(Exception):
    """The relay that we called is this one."""


class _Link(asyncio.Protocol):
    """One connection to a peer, from the upgrade on."""

    def __init__(self, service: DerpService, peer: Peer, mesh_key: str) -> None:
        self._service = service
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._machine = DerpClient(
            service.key, lambda: os.urandom(24), app_name="warren-relay", mesh_key=mesh_key
        )
        self._transport: asyncio.Transport | None = None
        self._identity: ConnectionId | None = None
        self._paused = False
        self.was_ready = False
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[str] = self._loop.create_future()
        """Why it ended; OwnRelayError if it should not be tried again."""

    @property
    def is_ready(self) -> bool:
        return self._identity is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)
        self._transport.write(self._machine.upgrade_request(self._peer.host or "localhost"))
        self._arm(HANDSHAKE_SECONDS)

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        try:
            self._machine.receive_data(data)
            for event in self._machine.events():
                self._receive(event)
        except RemoteProtocolError as error:
            self.end(str(error))
            return
        except OwnRelayError as error:
            self.ended.set_exception(error)
            self.end("")
            return
        if self.is_ready:
            self._arm(SILENCE_SECONDS)
            self._service.plan_flush()
        self.flush()

    def flush(self) -> None:
        """Write what the router has for the peer, as much as it takes."""
        transport = self._transport
        if transport is None or self._paused or self.ended.done():
            return
        data = self._machine.data_to_send()
        identity = self._identity
        if identity is not None:
            data += self._service.take(identity, WRITE_BYTES)
        while data:
            transport.write(data)
            if self._paused or identity is None or not self._service.has_waiting(identity):
                return
            data = self._service.take(identity, WRITE_BYTES)

    def end(self, reason: str) -> None:
        """Close at once; what waits for the peer is lost with it."""
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        if not self.ended.done():
            self.ended.set_result(reason)
        if self._identity is not None:
            identity, self._identity = self._identity, None
            self._service.close_link(identity)
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._paused = True
        self._stall = self._loop.call_later(STALL_SECONDS, self.end, "it takes nothing")

    def resume_writing(self) -> None:
        self._paused = False
        if self._stall is not None:
            self._stall.cancel()
        self.flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.end("the connection was closed")

    def _receive(self, event: ClientEvent) -> None:
        if isinstance(event, Ready):
            # Workers of one relay share its key, so only between relays does it tell that we met ourselves.
            if self._peer.kind is Kind.REGION and event.server == self._service.public_key:
                raise OwnRelayError
            self._identity = self._service.open_link(self, event.server, self._peer.kind)
            self.was_ready = True
            logger.info("link to a relay is up", extra={"relay": self._peer.name})
            self._machine.watch_connections()
        elif self._identity is None:
            return
        elif isinstance(event, PeerPresent):
            self._service.router.link_present(self._identity, event.peer)
        elif isinstance(event, PeerGone):
            self._service.router.link_gone(self._identity, event.peer.raw)

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.end, "it is silent")


class RelayLinks:
    """Keeps a link to every peer. Run `run` as a task of the service."""

    def __init__(
        self,
        service: DerpService,
        peers: tuple[Peer, ...],
        mesh_key: str,
        ssl_context: ssl.SSLContext | None = None,
        *,
        backoff: Callable[[], Backoff] = lambda: Backoff(0.2, 5.0),
    ) -> None:
        self._service = service
        self._peers = peers
        self._mesh_key = mesh_key
        self._ssl = ssl_context
        self._backoff = backoff
        self._live: set[_Link] = set()
        self.lost = 0

    @property
    def up(self) -> int:
        """Links that are established now."""
        return sum(link.is_ready for link in self._live)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for peer in self._peers:
                group.create_task(self._keep(peer), name=f"link to {peer.name}")

    async def _keep(self, peer: Peer) -> None:
        backoff = self._backoff()
        reported = False
        while True:
            reason = ""
            link = _Link(self._service, peer, self._mesh_key)
            try:
                await self._connect(link, peer)
                self._live.add(link)
                reason = await link.ended
            except OwnRelayError:
                logger.info("the relay list names this relay itself", extra={"relay": peer.name})
                return
            except (OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            finally:
                self._live.discard(link)
                link.end("closing")
            if link.was_ready:
                self.lost += 1
                backoff.reset()
                reported = False
            if not reported:
                reported = True
                logger.warning("link to a relay is down", extra={"relay": peer.name, "reason": reason})
            await asyncio.sleep(backoff.next_delay_seconds())

    async def _connect(self, link: _Link, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            if peer.path:
                await loop.create_unix_connection(lambda: link, peer.path)
            else:
                name = peer.host if self._ssl else None
                await loop.create_connection(
                    lambda: link, peer.host, peer.port, ssl=self._ssl, server_hostname=name
                )
