"""`/ts2021` by WebSocket: for browsers, and where a proxy or tunnel lets no other upgrade pass.

The same encrypted channel in binary messages, whose boundaries mean nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp import WSMsgType, web

from warren_control.metrics import ControlMetrics
from warren_control.transport.connection import Connection, RequestHandler
from warren_control.transport.handshake import HANDSHAKE_HEADER, REFUSAL, Handshakes
from warren_control.transport.liveness import Liveness
from warren_wire.control.session import UPGRADE, ServerSession

MAX_MESSAGE_BYTES: Final = 1024 * 1024
_HIGH_WATER_BYTES: Final = 256 * 1024


class WebSocketTransport(asyncio.Transport):
    """What a `Connection` writes to; `run` carries it out."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        super().__init__()
        self._socket = socket
        self._protocol: asyncio.BaseProtocol | None = None
        self._waiting = bytearray()
        self._wake = asyncio.Event()
        self._closing = False
        self._paused = False

    async def run(self) -> None:
        """Sends what is written until closed, the last bytes included."""
        while self._waiting or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            data, self._waiting = bytes(self._waiting), bytearray()
            if data:
                await self._socket.send_bytes(data)
            if self._paused and isinstance(self._protocol, asyncio.Protocol):
                self._paused = False
                self._protocol.resume_writing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._waiting += data
        self._wake.set()
        too_much = len(self._waiting) > _HIGH_WATER_BYTES
        if too_much and not self._paused and isinstance(self._protocol, asyncio.Protocol):
            self._paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def resume_reading(self) -> None:
        """Messages are handed over as they come."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class WebSocketTs2021:
    """Serves the upgrade as a web handler."""

    def __init__(
        self, handshakes: Handshakes, handler: RequestHandler, metrics: ControlMetrics, liveness: Liveness
    ) -> None:
        self._handshakes = handshakes
        self._handler = handler
        self._metrics = metrics
        self._liveness = liveness
        self._transports: set[WebSocketTransport] = set()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/ts2021", self.serve), web.post("/ts2021", self.serve)]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(
                status=400, text=f"no Upgrade to {UPGRADE}; a proxy in between may have removed it\n"
            )
        offered = {text.strip() for text in request.headers.get("Sec-WebSocket-Protocol", "").split(",")}
        if UPGRADE not in offered:
            return web.Response(status=400, text=f"the WebSocket protocol {UPGRADE} must be offered\n")
        source = request.remote or ""
        session = self._handshakes.accept(_initiation(request), source, early_payload=False)
        if session is None:
            return web.Response(status=400, text=f"{REFUSAL}\n")
        # Stock clients in browsers offer compression and cannot use it.
        socket = web.WebSocketResponse(protocols=(UPGRADE,), compress=False, max_msg_size=MAX_MESSAGE_BYTES)
        await socket.prepare(request)
        await self._run(socket, session, source)
        return socket

    async def end_all(self, _app: web.Application) -> None:
        """At shut-down: clients come back by themselves."""
        for transport in self._transports:
            protocol = transport.get_protocol()
            if isinstance(protocol, Connection):
                protocol.connection_lost(None)

    async def _run(self, socket: web.WebSocketResponse, session: ServerSession, source: str) -> None:
        transport = WebSocketTransport(socket)
        connection = Connection(session, self._handler, source, self._liveness)
        transport.set_protocol(connection)
        self._transports.add(transport)
        self._metrics.connections.inc()
        transport.write(session.data_to_send())
        try:
            async with asyncio.TaskGroup() as tasks:
                receiving = tasks.create_task(_receive(socket, connection))
                tasks.create_task(_send(transport, connection))
                end = await connection.run(transport, b"")
                receiving.cancel()
            self._metrics.ends.labels(end.value).inc()
        finally:
            self._transports.discard(transport)
            self._metrics.connections.dec()


def _initiation(request: web.Request) -> str:
    # Browsers cannot set headers; a plus sign that was not escaped has become a space.
    return request.query.get(HANDSHAKE_HEADER, "").replace(" ", "+")


async def _receive(socket: web.WebSocketResponse, connection: Connection) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY:
            break
        connection.data_received(message.data)
    connection.connection_lost(None)


async def _send(transport: WebSocketTransport, connection: Connection) -> None:
    try:
        await transport.run()
    except ConnectionError:
        connection.connection_lost(None)
