"""One port for web pages and upgraded protocols.

The listener reads the first request head of each connection itself. A head that asks for a registered
upgrade hands the raw transport to its handler; any other is replayed into aiohttp. Must not know which
protocols those are.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Final, cast

from aiohttp import web

from .http_head import HeadError, HeadFault, RequestHead, parse_head, split_head
from .tls import TlsFault, count_faults

__all__ = ["HeadFault", "Listener", "RequestHead", "UpgradeHandler", "adopt"]

logger = logging.getLogger(__name__)

UpgradeHandler = Callable[[RequestHead, asyncio.Transport, bytes], Awaitable[None]]
"""Gets the head, the transport (reading is paused: see `adopt`) and the bytes after the head.

It owns the transport and returns when the connection is done. `Listener.close` cancels it."""

HEAD_SECONDS: Final = 10.0
TLS_SECONDS: Final = 10.0
MAX_WAITING_HEADS: Final = 2048
"""Connections that have not sent a head yet: bounds what an idle flood can hold."""
MAX_CONNECTIONS: Final = 50_000

_ANSWERS: Final[Mapping[HeadFault, bytes]] = {
    HeadFault.TOO_LARGE: b"431 Request Header Fields Too Large",
    HeadFault.MALFORMED: b"400 Bad Request",
    HeadFault.TIMEOUT: b"408 Request Timeout",
    HeadFault.TOO_MANY_CONNECTIONS: b"503 Service Unavailable",
}


def adopt(transport: asyncio.Transport, protocol: asyncio.Protocol, leftover: bytes) -> None:
    """Put `protocol` on a handed-over transport, give it the leftover bytes, and go on reading."""
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if leftover and not transport.is_closing():
        protocol.data_received(leftover)
    if not transport.is_closing():
        transport.resume_reading()


class Listener:
    """`upgrades` maps (path, lower-case Upgrade value) to handlers; the value "" takes any upgrade there."""

    def __init__(
        self,
        app: web.Application,
        upgrades: Mapping[tuple[str, str], UpgradeHandler],
        *,
        ssl_context: ssl.SSLContext | None = None,
        head_seconds: float = HEAD_SECONDS,
        max_waiting_heads: int = MAX_WAITING_HEADS,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._upgrades = dict(upgrades)
        self._ssl = ssl_context
        if ssl_context is not None:
            count_faults(ssl_context, self._count_tls_fault)
        self.head_seconds = head_seconds
        self._max_waiting = max_waiting_heads
        self._max_connections = max_connections
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, keepalive_timeout=75.0)
        self._servers: list[asyncio.Server] = []
        self._waiting: set[_HeadReader] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self.faults: collections.Counter[HeadFault] = collections.Counter()
        """Connections that never got as far as a request, by reason."""
        self.tls_faults: collections.Counter[TlsFault] = collections.Counter()
        """Failed handshakes; those that end by silence are only counted as never finished."""
        self.accepted = 0

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Listen; an empty host means every address. OSError if that is not possible.

        With `reuse_port` several processes listen on one port and the kernel deals connections out.
        """
        loop = asyncio.get_running_loop()
        await self._serve(
            loop.create_server(
                lambda: _HeadReader(self),
                host or None,
                port,
                ssl=self._ssl,
                backlog=1024,
                reuse_port=reuse_port or None,
                ssl_handshake_timeout=TLS_SECONDS if self._ssl else None,
                ssl_shutdown_timeout=2.0 if self._ssl else None,
            )
        )

    async def start_unix(self, path: str) -> None:
        """Listen on a Unix socket, without TLS."""
        await self._serve(asyncio.get_running_loop().create_unix_server(lambda: _HeadReader(self), path))

    async def _serve(self, starting: Coroutine[object, object, asyncio.Server]) -> None:
        if self._runner.server is None:
            await self._runner.setup()
        try:
            self._servers.append(await starting)
        except OSError:
            await self.close()
            raise

    @property
    def port(self) -> int:
        """The port really used (for `start` with port 0)."""
        assert self._servers, "not started"
        return int(self._servers[0].sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """Open connections: waiting for a head, upgraded, and in the web application."""
        server = self._runner.server
        web_connections = len(server.connections) if server else 0
        return len(self._waiting) + len(self._handlers) + web_connections

    async def close(self) -> None:
        """Stop accepting, end handlers (they are cancelled and awaited), finish requests, close."""
        self.stop_accepting()
        for reader in list(self._waiting):
            reader.abort()
        handlers = list(self._handlers)
        for task in handlers:
            task.cancel()
        if handlers:
            await asyncio.wait(handlers, timeout=5.0)
        await self._runner.cleanup()

    def stop_accepting(self) -> None:
        """New connections are refused by the kernel; those there are go on."""
        for server in self._servers:
            server.close()

    # What follows is called by the head reader of a connection.

    def admit(self, reader: _HeadReader) -> bool:
        """Count a new connection and say whether there is room for it."""
        self.accepted += 1
        if len(self._waiting) >= self._max_waiting or self.connections >= self._max_connections:
            self.faults[HeadFault.TOO_MANY_CONNECTIONS] += 1
            return False
        self._waiting.add(reader)
        return True

    def _count_tls_fault(self, fault: TlsFault) -> None:
        self.tls_faults[fault] += 1

    def forget(self, reader: _HeadReader, fault: HeadFault | None) -> None:
        self._waiting.discard(reader)
        if fault is not None:
            self.faults[fault] += 1

    def dispatch(
        self, head: RequestHead, transport: asyncio.Transport, rest: bytes
    ) -> asyncio.Task[None] | None:
        """Hand the connection over; the task of the upgrade handler, or None for a web request."""
        handler = self._handler_for(head)
        if handler is None:
            server = self._runner.server
            assert server is not None
            adopt(transport, cast(asyncio.Protocol, server()), head.raw + rest)
            return None
        task = asyncio.get_running_loop().create_task(
            _run_handler(handler, head, transport, rest), name=f"connection {head.peer[0]}:{head.peer[1]}"
        )
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        return task

    def _handler_for(self, head: RequestHead) -> UpgradeHandler | None:
        wanted = head.upgrade
        if not wanted:
            return None
        return self._upgrades.get((head.path, wanted)) or self._upgrades.get((head.path, ""))


async def _run_handler(
    handler: UpgradeHandler, head: RequestHead, transport: asyncio.Transport, rest: bytes
) -> None:
    serving = handler(head, transport, rest)
    endpoint = f"{head.peer[0]}:{head.peer[1]}"
    # Connections live for days: what is only needed at their beginning must not live as long.
    del head, rest
    try:
        await serving
    except asyncio.CancelledError:
        # The end of one connection (peer gone, listener closing) is not the end of anything else.
        pass
    except Exception:
        logger.exception("connection handler failed", extra={"endpoint": endpoint})
    finally:
        transport.close()


class _HeadReader(asyncio.Protocol):
    """Collects one request head within size and time, then gives the transport away."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._handler: asyncio.Task[None] | None = None
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._listener.admit(self):
            self._answer(HeadFault.TOO_MANY_CONNECTIONS)
            return
        self._waiting = True
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._listener.head_seconds, self._refuse, HeadFault.TIMEOUT)

    def data_received(self, data: bytes) -> None:
        if not self._waiting:
            return
        assert self._transport is not None
        self._buffer += data
        while self._buffer.startswith(b"\r\n"):
            # RFC 9112 2.2: empty lines before the request line are skipped.
            del self._buffer[:2]
        try:
            length = split_head(self._buffer)
            if length is None:
                return
            head = parse_head(bytes(self._buffer[:length]), _peer(self._transport))
        except HeadError as error:
            self._refuse(error.fault)
            return
        self._leave(None)
        # Nothing may arrive here between now and the moment the handler sets its own protocol.
        self._transport.pause_reading()
        self._handler = self._listener.dispatch(head, self._transport, bytes(self._buffer[length:]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handler is not None:
            # The handler has not set its own protocol yet, so nobody else will tell it.
            self._handler.cancel()
        elif self._waiting:
            self._leave(HeadFault.CLOSED)

    def abort(self) -> None:
        self._leave(None)
        assert self._transport is not None
        self._transport.abort()

    def _refuse(self, fault: HeadFault) -> None:
        self._leave(fault)
        self._answer(fault)

    def _answer(self, fault: HeadFault) -> None:
        assert self._transport is not None
        lines = (b"HTTP/1.1 " + _ANSWERS[fault], b"Connection: close", b"Content-Length: 0", b"", b"")
        self._transport.write(b"\r\n".join(lines))
        self._transport.close()

    def _leave(self, fault: HeadFault | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._waiting = False
        self._listener.forget(self, fault)


def _peer(transport: asyncio.Transport) -> tuple[str, int]:
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return ("", 0)
    return (str(name[0]).removeprefix("::ffff:"), int(name[1]))
