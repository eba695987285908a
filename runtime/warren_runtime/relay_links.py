"""Links from this relay to the others of its region, and between the workers of one relay.

Each link is an ordinary DERP connection that proves membership by the mesh key, watches the other's clients
and carries packets to them. A lost link takes the clients behind it away and is dialled again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, cast

from warren_wire.derp.client import ClientEvent, DerpClient, PeerGone, PeerPresent, Ready
from warren_wire.derp.frames import PresenceFlag
from warren_wire.derp.router import ConnectionId, Kind
from warren_wire.errors import RemoteProtocolError

from .backoff import Backoff
from .derp_connection import HIGH_WATER_BYTES, LOW_WATER_BYTES, WRITE_BYTES
from .derp_server import DerpService
from .tasks import supervise
from .tls import TlsError

__all__ = ["Peer", "RelayLinks"]

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
    certificate_name: str = ""
    """What its certificate must be good for, if not for `host`."""

    @property
    def kind(self) -> Kind:
        return Kind.SIBLING if self.path else Kind.REGION


class OwnRelayError(Exception):
    """The relay that we called is this one."""


class _Link(asyncio.Protocol):
    """One connection to a peer, from the upgrade on."""

    def __init__(self, service: DerpService, peer: Peer, mesh_key: str, on_ready: Callable[[], None]) -> None:
        self._service = service
        self._peer = peer
        self._on_ready = on_ready
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
        self._transport.write(
            self._machine.upgrade_request(self._peer.certificate_name or self._peer.host or "localhost")
        )
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
            self._on_ready()
            logger.info("link to a relay is up", extra={"relay": self._peer.name})
            self._machine.watch_connections()
        elif self._identity is None:
            return
        elif isinstance(event, PeerPresent):
            # Stock relays also announce the relays that call them, us among them; no packet is for those.
            if PresenceFlag.RELAY not in event.flags:
                self._service.router.link_present(self._identity, event.peer)
        elif isinstance(event, PeerGone):
            self._service.router.link_gone(self._identity, event.peer.raw)

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.end, "it is silent")


class RelayLinks:
    """Keeps a link to every peer. Run `run` as a task of the service; `follow` changes who they are."""

    def __init__(
        self,
        service: DerpService,
        peers: Iterable[Peer],
        mesh_key: str,
        tls: Callable[[], ssl.SSLContext] | None = None,
        *,
        backoff: Callable[[], Backoff] = lambda: Backoff(0.2, 5.0),
    ) -> None:
        """`tls` is asked before each call, so that it may follow files that change."""
        self._service = service
        self._peers = frozenset(peers)
        self._mesh_key = mesh_key
        self._tls = tls
        self._backoff = backoff
        self._live: set[_Link] = set()
        self._tried: set[Peer] = set()
        self._keeping: dict[Peer, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self.lost = 0

    @property
    def up(self) -> int:
        """Links that are established now."""
        return sum(link.is_ready for link in self._live)

    @property
    def is_settled(self) -> bool:
        """Whether each peer has a link, or was called and could not be reached."""
        return self._peers <= self._tried

    def follow(self, peers: Iterable[Peer]) -> None:
        """From now on these are the peers: others are left, those that stay keep their link."""
        self._peers = frozenset(peers)
        self._changed.set()

    async def run(self) -> None:
        try:
            while True:
                self._changed.clear()
                await self._adjust()
                await self._changed.wait()
        finally:
            self._peers = frozenset()
            await self._adjust()

    async def _adjust(self) -> None:
        gone = [self._keeping.pop(peer) for peer in set(self._keeping) - self._peers]
        for task in gone:
            task.cancel()
        for peer in self._peers - set(self._keeping):
            self._tried.discard(peer)
            keep = supervise(f"link to {peer.name}", functools.partial(self._keep, peer))
            self._keeping[peer] = asyncio.create_task(keep)
        if gone:
            await asyncio.wait(gone)

    async def _keep(self, peer: Peer) -> None:
        backoff = self._backoff()
        reported = is_own = False
        while True:
            reason = ""
            link = _Link(self._service, peer, self._mesh_key, lambda: self._tried.add(peer))
            try:
                await self._connect(link, peer)
                self._live.add(link)
                reason = await link.ended
            except OwnRelayError:
                is_own = True
            except (OSError, TimeoutError, TlsError) as error:
                reason = str(error) or type(error).__name__
            finally:
                self._tried.add(peer)
                self._live.discard(link)
                link.end("closing")
            if link.was_ready:
                self.lost += 1
                backoff.reset()
                reported = False
            if is_own:
                break
            if not reported:
                reported = True
                logger.warning("link to a relay is down", extra={"relay": peer.name, "reason": reason})
            await asyncio.sleep(backoff.next_delay_seconds())
        logger.info("the relay list names this relay itself", extra={"relay": peer.name})
        await asyncio.Event().wait()

    async def _connect(self, link: _Link, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            if peer.path:
                await loop.create_unix_connection(lambda: link, peer.path)
                return
            context = await asyncio.to_thread(self._tls) if self._tls else None
            name = (peer.certificate_name or peer.host) if context else None
            await loop.create_connection(
                lambda: link, peer.host, peer.port, ssl=context, server_hostname=name
            )
