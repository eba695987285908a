"""A small client of the control protocol: registers, polls, reports. Folds the map stream as clients do."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from warren_wire.control import netmap
from warren_wire.control.mapstream import FrameDecoder
from warren_wire.control.messages import (
    ControlKey,
    Hostinfo,
    MapRequest,
    MapResponse,
    Node,
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

VERSION = 133


@dataclass
class Answer:
    """A response as far as it has come."""

    status: int = 0
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False


@dataclass
class Identity:
    """The keys of one machine."""

    hostname: str
    machine: MachinePrivate = field(default_factory=lambda: MachinePrivate.from_seed(os.urandom(32)))
    node: NodePrivate = field(default_factory=lambda: NodePrivate.from_seed(os.urandom(32)))
    disco: DiscoPrivate = field(default_factory=lambda: DiscoPrivate.from_seed(os.urandom(32)))


class ControlClient:
    """One encrypted connection of a machine. Use as an asynchronous context manager."""

    def __init__(self, identity: Identity, port: int, tls: ssl.SSLContext | None) -> None:
        self.identity = identity
        self.port = port
        self._tls = tls
        self._changed = asyncio.Event()
        self._answers: dict[int, Answer] = {}
        self._task: asyncio.Task[None] | None = None
        self._poll: int | None = None
        self._frames = FrameDecoder(compressed=True)
        self.netmap = netmap.EMPTY
        self.messages: list[MapResponse] = []
        self.disconnected = False

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        server = await fetch_key(self.port, self._tls)
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self._tls)
        self._session = ClientSession(
            machine=self.identity.machine,
            server=server,
            ephemeral_seed=os.urandom(32),
            version=VERSION,
            host=f"127.0.0.1:{self.port}",
        )
        self._connected = False
        self._writer.write(self.upgrade())
        self._task = asyncio.create_task(self._receive(), name=f"client {self.identity.hostname}")
        await self.until(lambda: self._connected or self.disconnected)

    def upgrade(self) -> bytes:
        """The bytes that ask for the upgrade."""
        return self._session.data_to_send()

    async def close(self) -> None:
        """Breaks the connection, as a lost network would."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._writer.transport.abort()

    def send_raw(self, data: bytes) -> None:
        """Bytes that are no record."""
        self._writer.write(data)

    async def send_register(self, auth_key: str = "", **fields: Any) -> Answer:
        """The answer to a register request, whatever its status."""
        return await self.call("POST", "/machine/register", self._register_body(auth_key, fields))

    async def register(self, auth_key: str = "", **fields: Any) -> RegisterResponse:
        answer = await self.send_register(auth_key, **fields)
        assert answer.status == 200, bytes(answer.body)
        return decode(RegisterResponse, bytes(answer.body))

    def _register_body(self, auth_key: str, fields: dict[str, Any]) -> bytes:
        values: dict[str, Any] = {
            "version": VERSION,
            "node_key": self.identity.node.public,
            "hostinfo": Hostinfo(hostname=self.identity.hostname, os="linux"),
            "auth": RegisterAuth(auth_key=auth_key) if auth_key else None,
        }
        return encode(RegisterRequest(**values | fields))

    def map_request(self, **fields: Any) -> MapRequest:
        values: dict[str, Any] = {
            "version": VERSION,
            "node_key": self.identity.node.public,
            "disco_key": self.identity.disco.public,
            "compress": "zstd",
            "keep_alive": True,
            "hostinfo": Hostinfo(hostname=self.identity.hostname, os="linux"),
        }
        return MapRequest(**values | fields)

    async def report(self, **fields: Any) -> int:
        """A lite update; the status."""
        request = self.map_request(omit_peers=True, **fields)
        return (await self.call("POST", "/machine/map", encode(request))).status

    async def poll(self, **fields: Any) -> int:
        """Opens the map stream, waits for its first message, and returns the status."""
        request = self.map_request(stream=True, **fields)
        self.netmap = netmap.EMPTY
        self.messages = []
        self._frames = FrameDecoder(compressed=True)
        self._poll = self._send("POST", "/machine/map", encode(request))
        answer = self._answers[self._poll]
        await self.until(lambda: bool(self.messages) or answer.ended or self.disconnected)
        return answer.status

    def stop_poll(self) -> None:
        assert self._poll is not None
        self._session.reset_stream(self._poll)
        self._flush()

    @property
    def poll_ended(self) -> bool:
        return self._poll is not None and self._answers[self._poll].ended

    async def call(self, method: str, path: str, body: bytes = b"") -> Answer:
        stream = self._send(method, path, body)
        answer = self._answers[stream]
        await self.until(lambda: answer.ended or self.disconnected)
        return answer

    async def until(self, condition: Callable[[], object], within: float = 20.0) -> None:
        """Waits for something to be true after what was received."""
        async with asyncio.timeout(within):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def peer(self, hostname: str) -> Node | None:
        """The peer of that name, as this client knows it."""
        for node in self.netmap.peers.values():
            if node.name.partition(".")[0] == hostname:
                return node
        return None

    def _send(self, method: str, path: str, body: bytes) -> int:
        stream = self._session.send_request(method, path, body)
        self._answers[stream] = Answer()
        self._flush()
        return stream

    def _flush(self) -> None:
        self._writer.write(self._session.data_to_send())

    async def _receive(self) -> None:
        try:
            while data := await self._reader.read(65536):
                self._session.receive_data(data)
                for event in self._session.events():
                    self._on(event)
                self._flush()
                self._changed.set()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            self.disconnected = True
            self._changed.set()

    def _on(self, event: object) -> None:
        match event:
            case Connected():
                self._connected = True
            case ResponseStarted(stream_id=stream, status=status):
                self._answers[stream].status = status
            case DataReceived(stream_id=stream, data=data):
                self._answers[stream].body += data
                if stream == self._poll and self._answers[stream].status == 200:
                    self._fold(data)
            case StreamEnded(stream_id=stream) | StreamReset(stream_id=stream):
                self._answers[stream].ended = True
            case Disconnected():
                self.disconnected = True

    def _fold(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            message = decode(MapResponse, frame)
            self.messages.append(message)
            self.netmap = netmap.apply(self.netmap, message)


async def fetch_key(port: int, tls: ssl.SSLContext | None) -> MachinePublic:
    """`GET /key`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    writer.write(b"GET /key?v=133 HTTP/1.1\r\nHost: control\r\nConnection: close\r\n\r\n")
    response = await reader.read()
    writer.close()
    head, _, body = response.partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0] + b" ", head
    return decode(ControlKey, body).public_key
