"""One connection to a control server: asyncio shell around `ClientSession`.

Carries requests and their answers; must not know what they mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Self, assert_never

from warren_agent.control.address import ServerAddress
from warren_agent.errors import ControlError
from warren_agent.kernel.addresses import is_assigned
from warren_wire.control.session import (
    ClientSession,
    Connected,
    DataReceived,
    Disconnected,
    PongReceived,
    RequestStarted,
    ResponseStarted,
    SessionEvent,
    StreamEnded,
    StreamReset,
)
from warren_wire.errors import WireError
from warren_wire.keys import MachinePrivate, MachinePublic

DIAL_SECONDS: Final = 10.0
REQUEST_SECONDS: Final = 60.0
MAX_ANSWER_BYTES: Final = 1024 * 1024
_READ_BYTES: Final = 256 * 1024
# Chunks of one answer that may wait; the reader stops when a consumer is this far behind.
_QUEUED_CHUNKS: Final = 64


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


@dataclass(slots=True)
class _Stream:
    status: asyncio.Future[int]
    chunks: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(_QUEUED_CHUNKS))
    """None marks the end."""


def marked_socket(family: int, kind: int, protocol: int, mark: int) -> socket.socket:
    """A socket whose packets stay out of the tunnel."""
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    if mark:
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        except OSError:
            made.close()
            raise
    return made


async def dial(host: str, port: int, mark: int) -> socket.socket:
    """A TCP connection to the first address that answers; raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, target in found:
        connection = marked_socket(family, kind, protocol, mark)
        try:
            await loop.sock_connect(connection, target)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


class ControlConnection:
    """An open session. Ends itself when the server breaks the rules or goes away."""

    def __init__(
        self, session: ClientSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._session = session
        self._reader = reader
        self._writer = writer
        self._streams: dict[int, _Stream] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failure: str | None = None
        self._task = asyncio.create_task(self._read(), name="control connection")

    @classmethod
    async def open(
        cls,
        address: ServerAddress,
        *,
        machine: MachinePrivate,
        server: MachinePublic,
        version: int,
        ssl_context: ssl.SSLContext,
        mark: int,
    ) -> Self:
        """Dial over TLS, upgrade, shake hands; raises `ControlError`."""
        session = ClientSession(
            machine=machine,
            server=server,
            ephemeral_seed=os.urandom(32),
            version=version,
            host=address.authority,
        )
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                raw = await dial(address.host, address.port, mark)
                reader, writer = await asyncio.open_connection(
                    sock=raw,
                    ssl=ssl_context if address.secure else None,
                    server_hostname=address.host if address.secure else None,
                    limit=_READ_BYTES,
                )
                connection = cls(session, reader, writer)
                try:
                    await connection._start()
                except BaseException:
                    await connection.close()
                    raise
                return connection
        except TimeoutError as error:
            raise ControlError(f"{address.url} does not answer within {DIAL_SECONDS:.0f} s") from error
        except OSError as error:
            raise ControlError(f"cannot reach {address.url}: {reason_of(error)}") from error

    @property
    def stranded(self) -> bool:
        """Whether the address that it was made from is gone, so that nothing comes or goes any more; the
        kernel would say so only after minutes of retransmissions."""
        name = self._writer.get_extra_info("sockname")
        return bool(name) and not is_assigned(ip_address(name[0].partition("%")[0]))

    async def _start(self) -> None:
        await self._flush()
        await self._ready

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()

    async def request(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        limit: int = MAX_ANSWER_BYTES,
        seconds: float = REQUEST_SECONDS,
    ) -> Answer:
        """One question, one answer; raises `ControlError`, also for none within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                async with self.stream(method, path, body) as (status, chunks):
                    answer = bytearray()
                    async for chunk in chunks:
                        answer += chunk
                        if len(answer) > limit:
                            raise ControlError(f"the control server's answer to {path} is too long")
                    return Answer(status, bytes(answer))
        except TimeoutError as error:
            raise ControlError(f"no answer to {path} within {seconds:.0f} s") from error

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, path: str, body: bytes
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """A request whose answer comes in pieces; leaving the block gives the rest up."""
        if self._failure is not None:
            raise ControlError(self._failure)
        try:
            stream_id = self._session.send_request(method, path, body)
        except WireError as error:
            raise ControlError(f"the connection to the control server is unusable: {error}") from error
        stream = _Stream(asyncio.get_running_loop().create_future())
        self._streams[stream_id] = stream
        try:
            await self._flush()
            yield await stream.status, self._chunks(stream)
        finally:
            given_up = self._streams.pop(stream_id, None) is not None
            # The reader may wait for room in a queue that nobody empties any more.
            while not stream.chunks.empty():
                stream.chunks.get_nowait()
            if given_up and self._failure is None:
                await self._give_up(stream_id)

    async def _give_up(self, stream_id: int) -> None:
        with contextlib.suppress(WireError, ControlError):
            self._session.reset_stream(stream_id)
            await self._flush()

    async def _chunks(self, stream: _Stream) -> AsyncIterator[bytes]:
        while (chunk := await stream.chunks.get()) is not None:
            yield chunk
        if self._failure is not None:
            raise ControlError(self._failure)

    async def _flush(self) -> None:
        data = self._session.data_to_send()
        if data:
            self._writer.write(data)
        try:
            await self._writer.drain()
        except OSError as error:
            raise ControlError(f"the connection to the control server broke: {reason_of(error)}") from error

    async def _read(self) -> None:
        reason = "the control server closed the connection"
        try:
            while data := await self._reader.read(_READ_BYTES):
                self._session.receive_data(data)
                for event in self._session.events():
                    await self._handle(event)
                await self._flush()
        except WireError as error:
            reason = f"the control server broke the protocol: {error}"
        except OSError as error:
            reason = f"the connection to the control server broke: {reason_of(error)}"
        except ControlError as error:
            reason = str(error)
        finally:
            await self._fail(reason)

    async def _fail(self, reason: str) -> None:
        self._failure = reason
        error = ControlError(reason)
        if not self._ready.done():
            self._ready.set_exception(error)
            # Nobody waits for it when the connection was given up while dialling.
            self._ready.exception()
        for stream in list(self._streams.values()):
            if not stream.status.done():
                stream.status.set_exception(ControlError(reason))
                stream.status.exception()
            _end(stream)
        self._streams.clear()

    async def _handle(self, event: SessionEvent) -> None:
        match event:
            case Connected():
                if not self._ready.done():
                    self._ready.set_result(None)
            case ResponseStarted(stream_id, status):
                stream = self._streams.get(stream_id)
                if stream is not None and not stream.status.done():
                    stream.status.set_result(status)
            case DataReceived(stream_id, data):
                stream = self._streams.get(stream_id)
                if stream is not None:
                    await stream.chunks.put(data)
            case StreamEnded(stream_id) | StreamReset(stream_id):
                stream = self._streams.pop(stream_id, None)
                if stream is not None:
                    if not stream.status.done():
                        stream.status.set_exception(ControlError("the control server gave a request up"))
                    await stream.chunks.put(None)
            case Disconnected(reason):
                raise ControlError(f"the control server ended the connection: {reason}")
            case RequestStarted() | PongReceived():
                pass
            case _:
                assert_never(event)


def _end(stream: _Stream) -> None:
    if stream.chunks.full():
        stream.chunks.get_nowait()
    stream.chunks.put_nowait(None)


def reason_of(error: OSError) -> str:
    """An error in few words; TLS and name errors have theirs in odd places."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); see ca_file"
    if isinstance(error, socket.gaierror) or not error.errno or error.errno < 0:
        return error.strerror or str(error) or type(error).__name__
    return os.strerror(error.errno)
