"""A control server on loopback that answers as a test says, over the real protocol."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from aiohttp import web

from warren_runtime.listener import Listener, RequestHead, adopt
from warren_runtime.opening import ServerTls
from warren_wire.control.mapstream import KEEP_ALIVE, encode_frame
from warren_wire.control.messages import (
    MapRequest,
    MapResponse,
    RegisterRequest,
    RegisterResponse,
    decode,
    encode,
)
from warren_wire.control.session import (
    DataReceived,
    RequestStarted,
    ServerSession,
    StreamEnded,
    StreamReset,
    upgrade_response,
)
from warren_wire.keys import MachinePrivate


@dataclass
class Poll:
    """An open map stream."""

    connection: _Connection
    stream_id: int
    request: MapRequest

    def send(self, response: MapResponse) -> None:
        self.send_bytes(encode_frame(encode(response), compress=True))

    def keep_alive(self) -> None:
        self.send_bytes(encode_frame(KEEP_ALIVE, compress=True))

    def send_bytes(self, data: bytes) -> None:
        self.connection.session.send_data(self.stream_id, data)
        self.connection.flush()

    def end(self) -> None:
        self.connection.session.send_data(self.stream_id, b"", end=True)
        self.connection.flush()


@dataclass
class ScriptedControl:
    """What it was asked is in `registrations`, `updates` and `polls`; what it answers is up to the test."""

    on_register: Callable[[RegisterRequest], RegisterResponse] = lambda _: RegisterResponse()
    on_poll: Callable[[MapRequest], int] = lambda _: 200
    registrations: list[RegisterRequest] = field(default_factory=list)
    updates: list[MapRequest] = field(default_factory=list)
    polls: asyncio.Queue[Poll] = field(default_factory=asyncio.Queue)
    signs_of_life: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    ping_results: asyncio.Queue[tuple[str, bytes]] = field(default_factory=asyncio.Queue)
    port: int = 0
    _key: MachinePrivate = field(default_factory=lambda: MachinePrivate.from_seed(os.urandom(32)))
    _listener: Listener | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, ssl_context: ssl.SSLContext | None = None) -> None:
        async def key(_: web.Request) -> web.Response:
            return web.json_response({"publicKey": str(self._key.public)})

        async def alive(request: web.Request) -> web.Response:
            self.signs_of_life.put_nowait(f"{request.method} {request.path_qs}")
            return web.Response()

        async def pong(request: web.Request) -> web.Response:
            self.ping_results.put_nowait((request.path_qs, await request.read()))
            return web.Response(status=204)

        app = web.Application()
        app.router.add_get("/key", key)
        app.router.add_route("HEAD", "/alive", alive)
        app.router.add_post("/pong", pong)
        upgrades = {("/ts2021", "tailscale-control-protocol"): self._serve}
        self._listener = Listener(app, upgrades, tls=ServerTls(ssl_context) if ssl_context else None)
        await self._listener.start("127.0.0.1", self.port)
        self.port = self._listener.port

    async def stop(self) -> None:
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    async def _serve(self, head: RequestHead, transport: asyncio.Transport, leftover: bytes) -> None:
        session = ServerSession(
            server=self._key,
            initiation=base64.b64decode(head.headers["x-tailscale-handshake"]),
            ephemeral_seed=os.urandom(32),
            challenge=None,
        )
        connection = _Connection(self, session)
        adopt(transport, connection, leftover)
        await connection.closed.wait()

    def answer(self, connection: _Connection, stream_id: int, path: str, body: bytes) -> None:
        session = connection.session
        if path.startswith("/pong"):
            self.ping_results.put_nowait((path, body))
            session.send_response(stream_id, 204)
            return
        if path == "/machine/register":
            request = decode(RegisterRequest, body)
            self.registrations.append(request)
            session.send_response(stream_id, 200, body=encode(self.on_register(request)))
            return
        poll = decode(MapRequest, body)
        if not poll.stream:
            self.updates.append(poll)
            session.send_response(stream_id, 200)
            return
        status = self.on_poll(poll)
        if status != 200:
            session.send_response(stream_id, status, body=b"node not found")
            return
        session.send_response(stream_id, 200, end=False)
        self.polls.put_nowait(Poll(connection, stream_id, poll))


class _Connection(asyncio.Protocol):
    def __init__(self, control: ScriptedControl, session: ServerSession) -> None:
        self._control = control
        self.session = session
        self.closed = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._requests: dict[int, tuple[str, bytearray]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(upgrade_response())
        self.flush()

    def data_received(self, data: bytes) -> None:
        self.session.receive_data(data)
        for event in self.session.events():
            match event:
                case RequestStarted(stream_id, _, path):
                    self._requests[stream_id] = (path, bytearray())
                case DataReceived(stream_id, part):
                    self._requests[stream_id][1].extend(part)
                case StreamEnded(stream_id):
                    path, body = self._requests.pop(stream_id)
                    self._control.answer(self, stream_id, path, bytes(body))
                case StreamReset(stream_id):
                    self._requests.pop(stream_id, None)
                case _:
                    pass
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    def flush(self) -> None:
        assert self._transport is not None
        self._transport.write(self.session.data_to_send())

    def drop(self) -> None:
        assert self._transport is not None
        self._transport.abort()
