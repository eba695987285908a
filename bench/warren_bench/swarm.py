"""Simulated clients of a control server: they register, keep their map stream, and note when news came.

Made of the wire package alone. A client looks into no first map and folds nothing, so that a thousand of
them cost less than the server that they measure.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

import zstandard

from warren_wire.control.messages import (
    ControlKey,
    Hostinfo,
    MapRequest,
    NetInfo,
    RegisterAuth,
    RegisterRequest,
    RegisterResponse,
    decode,
    encode,
)
from warren_wire.control.session import (
    ClientSession,
    Connected,
    DataReceived,
    Disconnected,
    ResponseStarted,
    StreamEnded,
    StreamReset,
)
from warren_wire.keys import DiscoPrivate, MachinePrivate, MachinePublic, NodePrivate

VERSION: Final = 133
HOST: Final = "127.0.0.1"
AT_A_TIME: Final = 20
# A server that needs longer for one client has lost it.
JOIN_SECONDS: Final = 300.0
SPREAD_SECONDS: Final = 60.0
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MOST_BYTES: Final = 64 * 1024 * 1024


def server_key(port: int) -> MachinePublic:
    """`GET /key`."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    connection.request("GET", f"/key?v={VERSION}")
    body = connection.getresponse().read()
    connection.close()
    return decode(ControlKey, body).public_key


@dataclass
class Keys:
    """What a client keeps over a restart of the server."""

    name: str
    machine: MachinePrivate = field(default_factory=lambda: MachinePrivate.from_seed(os.urandom(32)))
    node: NodePrivate = field(default_factory=lambda: NodePrivate.from_seed(os.urandom(32)))
    disco: DiscoPrivate = field(default_factory=lambda: DiscoPrivate.from_seed(os.urandom(32)))


class Client(asyncio.Protocol):
    """One machine."""

    def __init__(self, keys: Keys, server: MachinePublic, port: int) -> None:
        self.keys = keys
        self.maps = 0
        self.bytes = 0
        self.heard = 0.0
        self.dropped = False
        self._port = port
        self._marker = b""
        self._on_marker: Callable[[float], None] | None = None
        self._frames = bytearray()
        self._answers: dict[int, tuple[asyncio.Future[bytes], bytearray]] = {}
        self._poll: int | None = None
        self._zstd = zstandard.ZstdDecompressor()
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = loop.create_future()
        self._first: asyncio.Future[None] = loop.create_future()
        self._session = ClientSession(
            machine=keys.machine,
            server=server,
            ephemeral_seed=os.urandom(32),
            version=VERSION,
            host=f"{HOST}:{port}",
        )

    async def connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, HOST, self._port)
        await self._connected

    async def register(self, auth_key: str) -> None:
        request = RegisterRequest(
            version=VERSION,
            node_key=self.keys.node.public,
            hostinfo=self._hostinfo(),
            auth=RegisterAuth(auth_key=auth_key),
        )
        answer = decode(RegisterResponse, await self._call("/machine/register", encode(request)))
        if answer.error or answer.auth_url:
            raise RuntimeError(f"{self.keys.name} was not admitted: {answer.error or 'a login is wanted'}")

    async def poll(self) -> None:
        """Opens the map stream and waits for the first map."""
        self._poll = self._send("/machine/map", encode(self._map_request(stream=True)))
        async with asyncio.timeout(JOIN_SECONDS):
            await self._first

    async def log_out(self) -> None:
        """Leaves for good when it came with an ephemeral key."""
        request = RegisterRequest(version=VERSION, node_key=self.keys.node.public, expiry=_LONG_AGO)
        await self._call("/machine/register", encode(request))

    async def report(self, endpoints: Sequence[str]) -> None:
        """A lite update."""
        request = self._map_request(omit_peers=True, endpoints=tuple(endpoints))
        await self._call("/machine/map", encode(request))

    def watch(self, marker: str, found: Callable[[float], None]) -> None:
        """Tells the moment at which a message with this text came, or at which the stream was lost."""
        self._marker, self._on_marker = marker.encode(), found

    def close(self) -> None:
        self._on_marker = None
        if self._transport is not None:
            self._transport.abort()

    def _hostinfo(self) -> Hostinfo:
        return Hostinfo(
            hostname=self.keys.name, os="linux", net_info=NetInfo(preferred_derp=900), ipn_version="1.96.4"
        )

    def _map_request(
        self, *, stream: bool = False, omit_peers: bool = False, endpoints: tuple[str, ...] | None = None
    ) -> MapRequest:
        number = int.from_bytes(self.keys.node.public.raw[:2], "big")
        return MapRequest(
            version=VERSION,
            compress="zstd",
            keep_alive=True,
            node_key=self.keys.node.public,
            disco_key=self.keys.disco.public,
            stream=stream,
            omit_peers=omit_peers,
            hostinfo=self._hostinfo(),
            endpoints=endpoints or (f"192.0.2.{number % 250 + 1}:{number % 60000 + 1024}",),
        )

    async def _call(self, path: str, body: bytes) -> bytes:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[self._send(path, body)] = (future, bytearray())
        async with asyncio.timeout(JOIN_SECONDS):
            return await future

    def _send(self, path: str, body: bytes) -> int:
        stream = self._session.send_request("POST", path, body)
        self._flush()
        return stream

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(self._session.data_to_send())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop()

    def data_received(self, data: bytes) -> None:
        self._session.receive_data(data)
        for event in self._session.events():
            match event:
                case Connected():
                    self._connected.set_result(None)
                case DataReceived(stream_id=stream, data=part) if stream == self._poll:
                    self._take(part)
                case DataReceived(stream_id=stream, data=part):
                    self._answers[stream][1].extend(part)
                case ResponseStarted(stream_id=stream, status=status) if status != 200:
                    self._fail(stream, f"status {status}")
                case StreamEnded(stream_id=stream) | StreamReset(stream_id=stream):
                    self._end(stream)
                case Disconnected():
                    self._drop()
                case _:
                    pass
        self._flush()

    def _take(self, data: bytes) -> None:
        self._frames += data
        self.bytes += len(data)
        while len(self._frames) >= 4:
            (length,) = struct.unpack_from("<I", self._frames)
            if len(self._frames) < 4 + length:
                return
            frame = bytes(self._frames[4 : 4 + length])
            del self._frames[: 4 + length]
            self.maps += 1
            self.heard = time.monotonic()
            if not self._first.done():
                self._first.set_result(None)
            if self._on_marker is not None:
                text = self._zstd.decompress(frame, max_output_size=_MOST_BYTES)
                if self._marker in text:
                    self._found()

    def _found(self) -> None:
        tell, self._on_marker = self._on_marker, None
        if tell is not None:
            tell(time.monotonic())

    def _fail(self, stream: int, reason: str) -> None:
        if stream == self._poll:
            self._drop()
        elif stream in self._answers and not self._answers[stream][0].done():
            self._answers[stream][0].set_exception(RuntimeError(f"{self.keys.name}: {reason}"))

    def _end(self, stream: int) -> None:
        if stream == self._poll:
            self._drop()
            return
        future, body = self._answers.pop(stream, (None, bytearray()))
        if future is not None and not future.done():
            future.set_result(bytes(body))

    def _drop(self) -> None:
        self.dropped = True
        gone = ConnectionError(f"{self.keys.name}: the server ended the connection")
        waiting: list[asyncio.Future[Any]] = [self._connected, self._first]
        for future in (*waiting, *(answer for answer, _ in self._answers.values())):
            if not future.done():
                future.set_exception(gone)
                # Whoever does not wait for it any more need not be told.
                future.exception()
        self._found()


class Swarm:
    """Many clients of one server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server = server_key(port)
        self.clients: list[Client] = []

    @property
    def dropped(self) -> int:
        return sum(client.dropped for client in self.clients)

    def client(self, keys: Keys) -> Client:
        """A client that is not connected yet, and none of the swarm's own."""
        return Client(keys, self._server, self._port)

    async def join(
        self,
        keys: Sequence[Keys],
        auth_key: str | None,
        at_a_time: int = AT_A_TIME,
        progress: Callable[[int], None] = lambda _joined: None,
    ) -> None:
        """Lets all come in; each has its first map when this returns, or was dropped. Without a key they
        come back."""
        gate = asyncio.Semaphore(at_a_time)
        joined = 0

        async def one(whose: Keys) -> None:
            nonlocal joined
            async with gate:
                client = self.client(whose)
                self.clients.append(client)
                try:
                    await client.connect()
                    if auth_key is not None:
                        await client.register(auth_key)
                    await client.poll()
                except (OSError, TimeoutError, RuntimeError):
                    client.dropped = True
                joined += 1
                progress(joined)

        await asyncio.gather(*(one(whose) for whose in keys))

    async def quiet(self, seconds: float = 2.0) -> None:
        """Waits until nobody has heard anything for a while."""
        # Silence is no event.
        while (left := max(client.heard for client in self.clients) + seconds - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)

    async def spread(self, marker: str, act: Callable[[], Awaitable[object]], without: int) -> float:
        """Seconds from `act` until the last client heard of the marker; a minute if some never did."""
        watching = [
            client for number, client in enumerate(self.clients) if number != without and not client.dropped
        ]
        heard: list[float] = []
        all_heard = asyncio.Event()

        def found(at: float) -> None:
            heard.append(at)
            if len(heard) == len(watching):
                all_heard.set()

        for client in watching:
            client.watch(marker, found)
        began = time.monotonic()
        await act()
        try:
            async with asyncio.timeout(SPREAD_SECONDS):
                await all_heard.wait()
        except TimeoutError:
            return SPREAD_SECONDS
        return max(heard) - began

    def close(self) -> None:
        for client in self.clients:
            client.close()
