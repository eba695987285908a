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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

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
JOIN_SECONDS: Final = 120.0
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

    def __init__(self, keys: Keys, server: MachinePublic, port: int, changed: Callable[[], None]) -> None:
        self.keys = keys
        self.maps = 0
        self.bytes = 0
        self.heard = 0.0
        self.dropped = False
        self.marker: bytes | None = None
        self.found_at: float | None = None
        self._changed = changed
        self._frames = bytearray()
        self._answers: dict[int, tuple[asyncio.Future[bytes], bytearray]] = {}
        self._poll: int | None = None
        self._zstd = zstandard.ZstdDecompressor()
        self._transport: asyncio.Transport | None = None
        self._connected = asyncio.get_running_loop().create_future()
        self._session = ClientSession(
            machine=keys.machine,
            server=server,
            ephemeral_seed=os.urandom(32),
            version=VERSION,
            host=f"{HOST}:{port}",
        )

    async def connect(self, port: int) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, HOST, port)
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

    def poll(self) -> None:
        """Opens the map stream."""
        self._poll = self._send("/machine/map", encode(self._map_request(stream=True)))

    async def report(self, endpoints: Sequence[str]) -> None:
        """A lite update."""
        request = self._map_request(omit_peers=True, endpoints=tuple(endpoints))
        await self._call("/machine/map", encode(request))

    def watch(self, marker: bytes) -> None:
        """Notes when a message with this text comes."""
        self.marker, self.found_at = marker, None

    def close(self) -> None:
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
            if self.marker is not None and self.found_at is None:
                text = self._zstd.decompress(frame, max_output_size=_MOST_BYTES)
                if self.marker in text:
                    self.found_at = self.heard
            self._changed()

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
        for future, _ in self._answers.values():
            if not future.done():
                future.set_exception(gone)
        if not self._connected.done():
            self._connected.set_exception(gone)
        self._changed()


class Swarm:
    """Many clients of one server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server = server_key(port)
        self._event = asyncio.Event()
        self.clients: list[Client] = []

    @property
    def dropped(self) -> int:
        return sum(client.dropped for client in self.clients)

    async def join(self, keys: Sequence[Keys], auth_key: str | None, at_a_time: int = AT_A_TIME) -> None:
        """Lets all come in; each has its first map when this returns. Without a key they come back."""
        gate = asyncio.Semaphore(at_a_time)

        async def one(whose: Keys) -> None:
            async with gate:
                client = Client(whose, self._server, self._port, self._event.set)
                await client.connect(self._port)
                if auth_key is not None:
                    await client.register(auth_key)
                client.poll()
                self.clients.append(client)
                await self.until(lambda: client.maps > 0 or client.dropped, JOIN_SECONDS)

        await asyncio.gather(*(one(whose) for whose in keys))

    async def until(self, condition: Callable[[], bool], within: float) -> None:
        """Waits for a condition on the clients."""
        async with asyncio.timeout(within):
            while not condition():
                self._event.clear()
                await self._event.wait()

    async def quiet(self, seconds: float = 2.0) -> None:
        """Waits until nobody has heard anything for a while."""
        # Silence is no event.
        while (left := max(client.heard for client in self.clients) + seconds - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)

    async def spread(self, marker: str, act: Callable[[], object], without: int | None = None) -> float:
        """Seconds from `act` until the last client heard of the marker."""
        watching = [
            client for number, client in enumerate(self.clients) if number != without and not client.dropped
        ]
        for client in watching:
            client.watch(marker.encode())
        began = time.monotonic()
        result = act()
        if asyncio.iscoroutine(result):
            await result
        await self.until(lambda: all(client.found_at for client in watching if not client.dropped), 60)
        return max(client.found_at or began for client in watching) - began

    def close(self) -> None:
        for client in self.clients:
            client.close()
