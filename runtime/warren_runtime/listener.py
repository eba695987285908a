"""One port for web pages and upgraded protocols.

The listener reads the first request head of each connection itself. A head that asks for a registered
upgrade hands the raw transport to its handler; any other is replayed into aiohttp. Must not know which
protocols those are. What comes before the head (a proxy's word, TLS) is `opening`'s.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, cast

from aiohttp import web

from .acceptor import Acceptor
from .gate import Gate, Limits
from .http_head import HeadError, HeadFault, RequestHead, parse_head, split_head
from .opening import OPEN_SECONDS, OpeningError, ServerTls, begin, read_proxy_header
from .proxies import Proxies, client_middleware, connection_peer
from .tls import TlsFault

__all__ = ["HeadFault", "Listener", "RequestHead", "UpgradeHandler", "adopt"]

logger = logging.getLogger(__name__)

UpgradeHandler = Callable[[RequestHead, asyncio.Transport, bytes], Awaitable[None]]
"""Gets the head, the transport (reading is paused: see `adopt`) and the bytes after the head.

It owns the transport and returns when the connection is done. `Listener.close` cancels it."""

HEAD_SECONDS: Final = 10.0

_ANSWERS: Final[Mapping[HeadFault, bytes]] = {
    HeadFault.TOO_LARGE: b"431 Request Header Fields Too Large",
    HeadFault.MALFORMED: b"400 Bad Request",
    HeadFault.TIMEOUT: b"408 Request Timeout",
    HeadFault.TOO_MANY_CONNECTIONS: b"503 Service Unavailable",
    HeadFault.TOO_MANY_OF_SOURCE: b"429 Too Many Requests",
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
        tls: ServerTls | None = None,
        proxies: Proxies | None = None,
        limits: Limits | None = None,
        open_seconds: float = OPEN_SECONDS,
        head_seconds: float = HEAD_SECONDS,
    ) -> None:
        """`app` must not be running yet: its requests get the client's address in `remote`."""
        self._upgrades = dict(upgrades)
        self._tls = tls
        self._proxies = proxies or Proxies()
        limits = limits or Limits()
        self._gate = Gate(replace(limits, exempt=(*limits.exempt, *self._proxies.networks)))
        self._open_seconds = open_seconds
        self.head_seconds = head_seconds
        app.middlewares.insert(0, client_middleware(self._proxies))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, keepalive_timeout=75.0)
        self._acceptor: Acceptor | None = None
        self._unix: asyncio.Server | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: set[_HeadReader] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self.faults: collections.Counter[HeadFault] = collections.Counter()
        """Connections that never got as far as a request, by reason; failed handshakes are not among them."""
        self.tls_faults: collections.Counter[TlsFault] = collections.Counter()
        """Handshakes that failed."""
        self.accepted = 0

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Listen; an empty host means every address. OSError if that is not possible.

        With `reuse_port` several processes listen on one port and the kernel deals connections out.
        """
        await self._runner.setup()
        try:
            self._acceptor = Acceptor(host, port, self._accept, reuse_port=reuse_port)
        except OSError:
            await self.close()
            raise

    async def start_unix(self, path: str) -> None:
        """Listen on a Unix socket, without TLS."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._unix = await loop.create_unix_server(lambda: _HeadReader(self, ("", 0)), path)
        except OSError:
            await self.close()
            raise

    @property
    def port(self) -> int:
        """The port really used (for `start` with port 0)."""
        assert self._acceptor is not None, "not started"
        return self._acceptor.port

    @property
    def connections(self) -> int:
        """Open connections: before their first request, upgraded, and in the web application."""
        server = self._runner.server
        web_connections = len(server.connections) if server else 0
        return self._gate.waiting + len(self._handlers) + web_connections

    async def close(self) -> None:
        """Stop accepting, end handlers (they are cancelled and awaited), finish requests, close."""
        self.stop_accepting()
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
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
        if self._acceptor is not None:
            self._acceptor.close()
        if self._unix is not None:
            self._unix.close()

    def _accept(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        self.accepted += 1
        fault = self._gate.enter(peer[0], self.connections)
        if fault is not None:
            self.faults[fault] += 1
            _turn_away(sock, fault, answer=self._tls is None)
            return
        task = asyncio.get_running_loop().create_task(self._open(sock, peer))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        # Whom the gate counts this connection for; nobody while it refuses the client behind a proxy.
        counted: str | None = peer[0]
        try:
            client = await self._client_of(sock, peer)
            if client != peer:
                self._gate.leave(peer[0])
                counted = None
                fault = self._gate.enter(client[0], self.connections)
                if fault is not None:
                    sock.close()
                    raise OpeningError(fault)
                counted = client[0]
            await begin(sock, lambda: _HeadReader(self, client), self._tls, self._open_seconds)
        except OpeningError as error:
            self._count(error.fault)
        except OSError as error:
            logger.debug("connection not taken", extra={"endpoint": peer[0], "reason": str(error)})
        except Exception:
            sock.close()
            logger.exception("connection could not be opened", extra={"endpoint": peer[0]})
        finally:
            if counted is not None:
                self._gate.leave(counted)

    async def _client_of(self, sock: socket.socket, peer: tuple[str, int]) -> tuple[str, int]:
        if not self._proxies.proxy_protocol:
            return peer
        return await read_proxy_header(sock, peer, self._proxies, self._open_seconds)

    def _count(self, fault: HeadFault | TlsFault) -> None:
        if isinstance(fault, TlsFault):
            self.tls_faults[fault] += 1
        else:
            self.faults[fault] += 1

    # What follows is called by the head reader of a connection.

    def admit(self, reader: _HeadReader) -> None:
        self._gate.count(reader.peer[0])
        self._waiting.add(reader)

    def forget(self, reader: _HeadReader, fault: HeadFault | None) -> None:
        if reader in self._waiting:
            self._waiting.discard(reader)
            self._gate.leave(reader.peer[0])
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
            context = contextvars.copy_context()
            context.run(connection_peer.set, head.peer[0])
            context.run(adopt, transport, cast(asyncio.Protocol, server()), head.raw + rest)
            return None
        # One upgrade, one client: later requests cannot come from somebody else.
        head = replace(head, peer=(self._proxies.client(head.peer[0], head.headers), head.peer[1]))
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

    def __init__(self, listener: Listener, peer: tuple[str, int]) -> None:
        self.peer = peer
        self._listener = listener
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._handler: asyncio.Task[None] | None = None
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._listener.admit(self)
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
            head = parse_head(bytes(self._buffer[:length]), self.peer)
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
        self._transport.write(_answer_to(fault))
        self._transport.close()

    def _leave(self, fault: HeadFault | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._waiting = False
        self._listener.forget(self, fault)


def _turn_away(sock: socket.socket, fault: HeadFault, *, answer: bool) -> None:
    """Close at once; `answer` says whether the client would understand one."""
    try:
        if answer:
            sock.send(_answer_to(fault))
    except OSError:
        pass
    finally:
        sock.close()


def _answer_to(fault: HeadFault) -> bytes:
    lines = (b"HTTP/1.1 " + _ANSWERS[fault], b"Connection: close", b"Content-Length: 0", b"", b"")
    return b"\r\n".join(lines)
