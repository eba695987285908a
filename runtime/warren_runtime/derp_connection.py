"""The asyncio side of one DERP client: bytes in, batched writes out, and every time limit.

Never waits for a receiver: what a client cannot take now waits in the router's bounded queue.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from warren_wire.derp import frames
from warren_wire.derp.router import ConnectionId, Kind
from warren_wire.derp.server import ClientIntroduced, DerpServerConnection, ServerEvent
from warren_wire.errors import AuthenticationError, RemoteProtocolError

from .pulse import Pulse

logger = logging.getLogger(__name__)

WRITE_BYTES: Final = 128 * 1024
"""One write; more waits in the queue, where the oldest can still be dropped."""
HIGH_WATER_BYTES: Final = 256 * 1024
LOW_WATER_BYTES: Final = 64 * 1024
CLOSING_SECONDS: Final = 5.0
TCP_USER_TIMEOUT_MS: Final = 15_000
"""Data unacknowledged this long means the client is gone; the kernel would try a quarter of an hour."""


class CloseReason(enum.Enum):
    """Why a connection ended."""

    CLIENT = "client"
    PROTOCOL_ERROR = "protocol_error"
    AUTHENTICATION = "authentication"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    REFUSED = "refused"
    WRITE_TIMEOUT = "write_timeout"
    TOO_MANY = "too_many"
    WRONG_MESH_KEY = "wrong_mesh_key"
    CLOSED_BY_RELAY = "closed_by_relay"
    RESTARTING = "restarting"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class DerpTimes:
    """Time limits of a connection, in seconds."""

    handshake: float = 10.0
    admission: float = 6.0
    write: float = 2.0
    keep_alive: float = 60.0
    keep_alive_jitter: float = 5.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What one client may send. Beyond it nothing is read from it: TCP slows it down and nothing is lost."""

    bytes_per_second: int
    burst_bytes: int


class _Bucket:
    """How far a client is ahead of its rate."""

    __slots__ = ("_at", "_limit", "_tokens")

    def __init__(self, limit: RateLimit, now: float) -> None:
        self._limit = limit
        self._tokens = float(limit.burst_bytes)
        self._at = now

    def spend(self, size: int, now: float) -> float:
        """Seconds for which nothing more may be read."""
        limit = self._limit
        earned = (now - self._at) * limit.bytes_per_second
        self._at = now
        self._tokens = min(float(limit.burst_bytes), self._tokens + earned) - size
        return max(0.0, -self._tokens / limit.bytes_per_second)


class ConnectionOwner(Protocol):
    """What a connection tells the service that owns it."""

    @property
    def pulse(self) -> Pulse: ...

    def connection_events(self, connection: ClientConnection, events: Sequence[ServerEvent]) -> None: ...

    def connection_ended(self, connection: ClientConnection, reason: CloseReason) -> None: ...

    def take(self, identity: ConnectionId, max_bytes: int) -> bytes: ...

    def has_waiting(self, identity: ConnectionId) -> bool: ...


class ClientConnection(asyncio.Protocol):
    """Made by the service after the upgrade; `identity` is set once the client is admitted."""

    __slots__ = (
        "_bucket",
        "_ended",
        "_held_lately",
        "_held_timer",
        "_introduced",
        "_limit",
        "_loop",
        "_machine",
        "_owner",
        "_paused",
        "_stall_timer",
        "_timer",
        "_times",
        "_told_of_limit",
        "_transport",
        "beat_at",
        "bytes_received",
        "bytes_sent",
        "closed",
        "identity",
        "kind",
    )

    def __init__(
        self,
        owner: ConnectionOwner,
        machine: DerpServerConnection,
        times: DerpTimes,
        *,
        limit: RateLimit | None = None,
        kind: Kind = Kind.CLIENT,
    ) -> None:
        self._owner = owner
        self._limit = limit
        self._bucket: _Bucket | None = None
        self._held_timer: asyncio.TimerHandle | None = None
        self._held_lately = False
        self._told_of_limit = False
        self.kind = kind
        """What it would be as a relay; whether it is one, its mesh key decides."""
        self._machine = machine
        self._times = times
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._ended = False
        self.identity: ConnectionId | None = None
        self._introduced: asyncio.Future[ClientIntroduced | None] | None = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.beat_at = 0
        self.bytes_received = 0
        self.bytes_sent = 0

    @property
    def is_ended(self) -> bool:
        return self._ended

    @property
    def unknown_frames(self) -> int:
        return self._machine.unknown_frames

    @property
    def pings(self) -> int:
        return self._machine.pings

    async def introduced(self) -> ClientIntroduced | None:
        """Who the client is, or None if the connection ended before. To be awaited once."""
        assert self._introduced is not None
        try:
            return await self._introduced
        finally:
            self._introduced = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)
        _set_user_timeout(self._transport)
        self._timer = self._loop.call_later(self._times.handshake, self.end, CloseReason.HANDSHAKE_TIMEOUT)
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self.bytes_received += len(data)
        failure: RemoteProtocolError | None = None
        try:
            self._machine.receive_data(data)
        except RemoteProtocolError as error:
            failure = error
        self._process_events()
        if failure is not None:
            self._fail(failure)
        elif not self._ended:
            if self._bucket is not None:
                self._hold_back(len(data))
            self.flush()

    def accept(self, identity: ConnectionId, *, as_relay: bool = False) -> None:
        """The client is admitted: tell it, read what it sent meanwhile, go on reading."""
        self.identity = identity
        if self._limit is not None and not as_relay:
            self._bucket = _Bucket(self._limit, self._loop.time())
        try:
            self._machine.accept(as_relay=as_relay)
        except RemoteProtocolError as error:
            self._fail(error)
            return
        self._process_events()
        if not self._ended:
            self._owner.pulse.add(self)
        self.flush()
        if self._transport is not None and not self._ended:
            self._transport.resume_reading()

    def flush(self) -> None:
        """Write what is due, as much as the client takes."""
        transport = self._transport
        if transport is None or self._paused or self._ended:
            return
        data = self._machine.data_to_send()
        identity = self.identity
        if identity is not None:
            data += self._owner.take(identity, WRITE_BYTES)
        while data:
            self.bytes_sent += len(data)
            # May call pause_writing at once, and in it nothing of ours that ends the connection.
            transport.write(data)
            if self._paused or identity is None or not self._owner.has_waiting(identity):
                return
            data = self._owner.take(identity, WRITE_BYTES)

    def announce_restart(self, reconnect_in_ms: int, try_for_ms: int) -> None:
        self._write_notice(frames.restarting(reconnect_in_ms, try_for_ms))

    def end(self, reason: CloseReason) -> None:
        """Close, once; queued bytes get a few seconds, a stalled client none."""
        if self._ended:
            return
        self._ended = True
        self._owner.pulse.discard(self)
        for timer in (self._timer, self._stall_timer, self._held_timer):
            if timer is not None:
                timer.cancel()
        if self._introduced is not None and not self._introduced.done():
            self._introduced.set_result(None)
        transport = self._transport
        if transport is not None:
            if reason is CloseReason.WRITE_TIMEOUT or self._paused:
                transport.abort()
            else:
                transport.close()
                self._timer = self._loop.call_later(CLOSING_SECONDS, transport.abort)
        self._owner.connection_ended(self, reason)

    def pause_writing(self) -> None:
        self._paused = True
        self._watch_stall(None)

    def resume_writing(self) -> None:
        self._paused = False
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self.flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.end(CloseReason.CLIENT)
        if self._timer is not None:
            self._timer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def _process_events(self) -> None:
        events = self._machine.events()
        if not events:
            return
        first = events[0]
        if isinstance(first, ClientIntroduced):
            # Nothing more is read until the client is admitted; then it may idle for ever.
            if self._transport is not None:
                self._transport.pause_reading()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            assert self._introduced is not None, "a client introduces itself once"
            self._introduced.set_result(first)
            return
        self._owner.connection_events(self, events)

    def _fail(self, error: RemoteProtocolError) -> None:
        authentication = isinstance(error, AuthenticationError)
        logger.debug("relay client broke the protocol", extra={"reason": str(error)})
        self.end(CloseReason.AUTHENTICATION if authentication else CloseReason.PROTOCOL_ERROR)

    def beat(self) -> None:
        """Once a minute: the client must see that the relay is there."""
        if self._ended or self._transport is None:
            return
        self._write_notice(frames.KEEP_ALIVE)
        if self._told_of_limit and not self._held_lately:
            self._told_of_limit = False
            self._write_notice(frames.health(""))
        self._held_lately = False
        self._owner.pulse.add(self)

    def _write_notice(self, frame: bytes) -> None:
        """A frame that a stalled client can do without."""
        if self._transport is not None and self.identity is not None and not (self._paused or self._ended):
            self._transport.write(frame)

    def _hold_back(self, size: int) -> None:
        assert self._bucket is not None
        delay = self._bucket.spend(size, self._loop.time())
        if not delay or self._transport is None:
            return
        self._held_lately = True
        if not self._told_of_limit:
            self._told_of_limit = True
            self._write_notice(frames.health("the relay limits how much this client may send"))
        self._transport.pause_reading()
        if self._held_timer is not None:
            self._held_timer.cancel()
        self._held_timer = self._loop.call_later(delay, self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._ended:
            self._transport.resume_reading()

    def _watch_stall(self, size_before: int | None) -> None:
        """A client that took nothing for the time limit is closed; a slow one that takes something stays."""
        if self._transport is None or not self._paused or self._ended:
            return
        size = self._transport.get_write_buffer_size()
        if size_before is not None and size >= size_before:
            self.end(CloseReason.WRITE_TIMEOUT)
            return
        self._stall_timer = self._loop.call_later(self._times.write, self._watch_stall, size)


def _set_user_timeout(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
