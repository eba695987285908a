"""One client connection after its handshake: many requests at once over HTTP/2 inside Noise.

A connection that breaks the protocol, does not answer pings or takes nothing any more is closed; nobody else
notices. The end of a poll is the end of its stream, not of the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, cast

from warren_control.metrics import ConnectionEnd
from warren_control.transport.exchange import Exchange
from warren_control.transport.liveness import DEAD_SECONDS, PING_SECONDS, STALL_SECONDS, Liveness
from warren_runtime.listener import adopt
from warren_wire.control.events import (
    DataReceived,
    Disconnected,
    RequestStarted,
    StreamEnded,
    StreamReset,
)
from warren_wire.control.session import ServerSession
from warren_wire.errors import LocalProtocolError, RemoteProtocolError

logger = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 1024 * 1024
# A stock client has one poll and a few short calls in flight.
MAX_REQUESTS: Final = 64

RequestHandler = Callable[[Exchange], Awaitable[None]]


class _Request:
    """A request that is coming in or being answered."""

    __slots__ = ("body", "method", "path", "task")

    def __init__(self, method: str, path: str) -> None:
        self.method = method
        self.path = path
        self.body = bytearray()
        self.task: asyncio.Task[None] | None = None


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(
        self, session: ServerSession, handler: RequestHandler, source: str, liveness: Liveness
    ) -> None:
        self.session = session
        self._handler = handler
        self._source = source
        self._liveness = liveness
        self._requests: dict[int, _Request] = {}
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[ConnectionEnd] = self._loop.create_future()
        self._heard = self._pinged = self._loop.time()
        self._writable = True
        self._waiting: dict[int, tuple[float, Callable[[], None]]] = {}
        """By stream: since when its client takes nothing, and whom to call once it does."""

    async def run(self, transport: asyncio.Transport, rest: bytes) -> ConnectionEnd:
        """Serves until the connection ends; then every request of it has ended too."""
        adopt(transport, self, rest)
        self._liveness.add(self)
        # Only the handshake needed it, and connections live for days.
        del rest
        try:
            return await self._ended
        finally:
            self._liveness.discard(self)
            tasks = [request.task for request in self._requests.values() if request.task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.flush()
            transport.close()

    def look(self, now: float) -> None:
        """What the passing of time means: a silent client is asked for a sign of life, a dead one let go."""
        silent = now - self._heard
        if silent > DEAD_SECONDS:
            self._end(ConnectionEnd.UNRESPONSIVE)
        elif any(now - since > STALL_SECONDS for since, _ in self._waiting.values()):
            self._end(ConnectionEnd.STALLED)
        elif silent >= PING_SECONDS and now - self._pinged >= PING_SECONDS:
            self._pinged = now
            self.session.ping()
            self.flush()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionEnd.CLOSED)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._made_progress()

    def data_received(self, data: bytes) -> None:
        if self._ended.done():
            return
        self._heard = self._loop.time()
        try:
            self.session.receive_data(data)
            self._handle_events()
        except RemoteProtocolError as error:
            logger.debug("client broke the protocol", extra={"reason": str(error)})
            self._end(ConnectionEnd.PROTOCOL_ERROR)
        self.flush()
        self._made_progress()

    # requests

    def _handle_events(self) -> None:
        for event in self.session.events():
            match event:
                case RequestStarted():
                    self._start(event)
                case DataReceived():
                    self._collect(event.stream_id, event.data)
                case StreamEnded():
                    self._dispatch(event.stream_id)
                case StreamReset():
                    self._drop(event.stream_id)
                case Disconnected():
                    self._end(ConnectionEnd.CLOSED)
                case _:
                    # Pings are judged by the time of the last byte; nothing else concerns a server.
                    pass

    def _start(self, event: RequestStarted) -> None:
        if len(self._requests) >= MAX_REQUESTS:
            self.session.reset_stream(event.stream_id)
            return
        self._requests[event.stream_id] = _Request(event.method, event.path)

    def _collect(self, stream_id: int, data: bytes) -> None:
        request = self._requests.get(stream_id)
        if request is None or request.task is not None:
            return
        if len(request.body) + len(data) > MAX_BODY_BYTES:
            del self._requests[stream_id]
            self.session.send_response(stream_id, 413, (), b"request body too large\n")
            return
        request.body += data

    def _dispatch(self, stream_id: int) -> None:
        request = self._requests.get(stream_id)
        if request is None or request.task is not None:
            return
        responder = StreamResponder(self, stream_id)
        exchange = Exchange(
            self.session.machine, request.method, request.path, bytes(request.body), self._source, responder
        )
        request.body.clear()
        request.task = self._loop.create_task(
            self._serve(exchange, stream_id, responder), name=f"{request.method} {request.path}"
        )

    async def _serve(self, exchange: Exchange, stream_id: int, responder: StreamResponder) -> None:
        try:
            await self._handler(exchange)
        except LocalProtocolError as error:
            # The connection ended while the answer was made.
            logger.debug("answer not sent", extra={"path": exchange.path, "reason": str(error)})
        except Exception:
            logger.exception("request failed", extra={"path": exchange.path})
            if not responder.started:
                exchange.refuse(500, "internal error")
        finally:
            self._requests.pop(stream_id, None)
            responder.finish()

    def _drop(self, stream_id: int) -> None:
        request = self._requests.pop(stream_id, None)
        if request is not None and request.task is not None:
            request.task.cancel()

    # sending

    def flush(self) -> None:
        """Writes what the session has for the client."""
        data = self.session.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def idle(self, stream_id: int) -> bool:
        """Whether the client has taken what was sent on a stream."""
        return self._writable and self.session.buffered_bytes(stream_id) == 0

    def when_idle(self, stream_id: int, act: Callable[[], None]) -> None:
        """Calls once when it has; the stream's earlier call, if it still waits, is replaced."""
        since, _ = self._waiting.get(stream_id, (self._loop.time(), act))
        self._waiting[stream_id] = (since, act)

    def _made_progress(self) -> None:
        if not self._waiting:
            return
        for stream_id in [stream_id for stream_id in self._waiting if self.idle(stream_id)]:
            _, act = self._waiting.pop(stream_id)
            act()

    def _end(self, reason: ConnectionEnd) -> None:
        self._waiting.clear()
        if not self._ended.done():
            self._ended.set_result(reason)


class StreamResponder:
    """Answers on one stream."""

    __slots__ = ("_connection", "_finished", "_stream", "started")

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self._connection = connection
        self._stream = stream_id
        self.started = False
        self._finished = False

    def respond(self, status: int, headers: Sequence[tuple[str, str]], body: bytes, *, end: bool) -> None:
        self.started = True
        self._finished = end
        self._connection.session.send_response(self._stream, status, headers, body, end)
        self._connection.flush()

    @property
    def idle(self) -> bool:
        return self._connection.idle(self._stream)

    def when_idle(self, act: Callable[[], None]) -> None:
        self._connection.when_idle(self._stream, act)

    def send(self, data: bytes) -> None:
        self._connection.session.send_data(self._stream, data)
        self._connection.flush()

    async def write(self, data: bytes) -> None:
        while not self.idle:
            taken = asyncio.Event()
            self.when_idle(taken.set)
            await taken.wait()
        self.send(data)

    def finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        if self.started:
            self._connection.session.send_data(self._stream, b"", True)
        self._connection.flush()
