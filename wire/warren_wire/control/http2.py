"""HTTP/2 over any byte stream, for both sides: what is sent waits here until flow control lets it go.

Knows nothing of Noise. Frame headers are checked before the library buffers a frame, because the library
takes in a whole frame of up to 16 MiB before it looks at its length.
"""

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from warren_wire.control.events import (
    DataReceived,
    Disconnected,
    Headers,
    PongReceived,
    RequestStarted,
    ResponseStarted,
    SessionEvent,
    StreamEnded,
    StreamReset,
)
from warren_wire.control.http2_settings import CompactSettings
from warren_wire.errors import LocalProtocolError, RemoteProtocolError

# A map of a large mesh arrives in one burst, so the client's windows are much wider than the default 64 KiB.
CLIENT_STREAM_WINDOW_BYTES: Final = 4 * 1024 * 1024
CLIENT_CONNECTION_WINDOW_BYTES: Final = 16 * 1024 * 1024
# Requests are a few KiB; the connection must not be held up by one that is not.
SERVER_CONNECTION_WINDOW_BYTES: Final = 1024 * 1024
# One connection carries the poll and everything else of a client.
SERVER_MAX_STREAMS: Final = 250
MAX_FRAME_BYTES: Final = 16384
MAX_HEADER_LIST_BYTES: Final = 64 * 1024

_METHODS_WITH_BODY: Final = ("POST", "PUT", "PATCH")
_PREFACE_BYTES: Final = 24
_FRAME_HEADER_BYTES: Final = 9
# Length (24 bits), type, flags, stream (RFC 9113 4.1).
_FRAME_HEADER: Final = struct.Struct(">HBBBL")
_DATA: Final = 0
_DEFAULT_WINDOW_BYTES: Final = 65535


class FrameGuard:
    """Follows the frame headers of a stream and refuses an oversized frame at its header."""

    __slots__ = ("_header", "_skip")

    def __init__(self, *, preface: bool) -> None:
        self._skip = _PREFACE_BYTES if preface else 0
        self._header = b""

    def check(self, data: bytes) -> None:
        offset = 0
        while offset < len(data):
            if self._skip:
                step = min(self._skip, len(data) - offset)
                self._skip -= step
                offset += step
                continue
            part = data[offset : offset + _FRAME_HEADER_BYTES - len(self._header)]
            self._header += part
            offset += len(part)
            if len(self._header) == _FRAME_HEADER_BYTES:
                self._skip = int.from_bytes(self._header[:3], "big")
                self._header = b""
                if self._skip > MAX_FRAME_BYTES:
                    raise RemoteProtocolError(f"an HTTP/2 frame of {self._skip} bytes is not allowed")


@dataclass(slots=True)
class _Outbound:
    """The sending side of one stream."""

    chunks: deque[memoryview] = field(default_factory=deque)
    size: int = 0
    started: bool = False
    ended: bool = False

    def add(self, data: bytes) -> None:
        if data:
            self.chunks.append(memoryview(data))
            self.size += len(data)

    def take(self, limit: int) -> bytes:
        parts: list[memoryview] = []
        while limit and self.chunks:
            chunk = self.chunks.popleft()
            if len(chunk) > limit:
                self.chunks.appendleft(chunk[limit:])
                chunk = chunk[:limit]
            limit -= len(chunk)
            self.size -= len(chunk)
            parts.append(chunk)
        return b"".join(parts)


class Http2Channel:
    """One HTTP/2 connection.

    Streams that the other side has given up take what is still sent on them without a word: the two crossed
    on the way, and that is nobody's fault.
    """

    def __init__(self, *, client_side: bool) -> None:
        config = h2.config.H2Configuration(client_side=client_side, header_encoding=None)
        self._h2 = h2.connection.H2Connection(config)
        self._client_side = client_side
        self._guard = FrameGuard(preface=not client_side)
        self._events: list[SessionEvent] = []
        self._streams: dict[int, _Outbound] = {}
        self._highest_stream_id = 0
        self._waiting: dict[int, _Outbound] = {}
        self._out = bytearray()
        self._closed = False
        self._start()

    def _start(self) -> None:
        codes = h2.settings.SettingCodes
        values: dict[h2.settings.SettingCodes, int] = {codes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES}
        if self._client_side:
            values |= {codes.ENABLE_PUSH: 0, codes.INITIAL_WINDOW_SIZE: CLIENT_STREAM_WINDOW_BYTES}
            window = CLIENT_CONNECTION_WINDOW_BYTES
        else:
            values |= {codes.MAX_CONCURRENT_STREAMS: SERVER_MAX_STREAMS}
            window = SERVER_CONNECTION_WINDOW_BYTES
        self._h2.local_settings = CompactSettings(client=self._client_side, initial_values=values)
        self._h2.remote_settings = CompactSettings(client=not self._client_side)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(window - _DEFAULT_WINDOW_BYTES)

    # What comes in.

    def receive_data(self, data: bytes) -> None:
        if self._closed or not data:
            return
        self._guard.check(data)
        try:
            for event in self._h2.receive_data(data):
                self._translate(event)
        except h2.exceptions.H2Error as error:
            self._closed = True
            raise RemoteProtocolError("the peer broke the rules of HTTP/2") from error

    def events(self) -> list[SessionEvent]:
        events, self._events = self._events, []
        return events

    def _translate(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=stream_id, headers=headers):
                self._on_request(stream_id, headers or [])
            case h2.events.ResponseReceived(stream_id=stream_id, headers=headers):
                self._on_response(stream_id, headers or [])
            case h2.events.DataReceived(stream_id=stream_id, data=data, flow_controlled_length=length):
                self._h2.acknowledge_received_data(length, stream_id)
                if data:
                    self._events.append(DataReceived(stream_id, bytes(data)))
            case h2.events.StreamEnded(stream_id=stream_id):
                self._events.append(StreamEnded(stream_id))
            case h2.events.StreamReset(stream_id=stream_id, error_code=code):
                self._forget(stream_id)
                self._events.append(StreamReset(stream_id, int(code or 0)))
            case h2.events.PingAckReceived():
                self._events.append(PongReceived())
            case h2.events.ConnectionTerminated(error_code=code):
                self._closed = True
                self._events.append(Disconnected(f"the peer ended the connection with code {int(code or 0)}"))
            case _:
                # Window and settings changes only matter to `_pump`; the rest is of no use here.
                pass

    def _on_request(self, stream_id: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        pseudo, plain = _split(headers)
        self._open(stream_id)
        self._events.append(
            RequestStarted(
                stream_id=stream_id,
                method=pseudo.get(":method", ""),
                path=pseudo.get(":path", ""),
                authority=pseudo.get(":authority", ""),
                headers=plain,
            )
        )

    def _on_response(self, stream_id: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        pseudo, plain = _split(headers)
        status = pseudo.get(":status", "")
        if not (status.isascii() and status.isdigit() and len(status) == 3):
            raise RemoteProtocolError("the response has no valid status")
        self._events.append(ResponseStarted(stream_id, int(status), plain))

    # What goes out.

    def send_request(
        self, method: str, path: str, authority: str, body: bytes, headers: Sequence[tuple[str, str]]
    ) -> int:
        self._require_open()
        stream_id = self._h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
        length = [("content-length", str(len(body)))] if body or method in _METHODS_WITH_BODY else []
        try:
            self._h2.send_headers(stream_id, [*head, *length, *_lowered(headers)], end_stream=not body)
        except h2.exceptions.H2Error as error:
            raise LocalProtocolError("the request cannot be sent now") from error
        outbound = self._open(stream_id)
        outbound.started = True
        if body:
            self.send_data(stream_id, body, end=True)
        else:
            self._forget(stream_id)
        return stream_id

    def send_response(
        self, stream_id: int, status: int, headers: Sequence[tuple[str, str]], body: bytes, *, end: bool
    ) -> None:
        outbound = self._outbound(stream_id)
        if outbound is None:
            return
        if outbound.started:
            raise LocalProtocolError("the response has started already")
        head = [(":status", str(status)), *_lowered(headers)]
        try:
            self._h2.send_headers(stream_id, head, end_stream=end and not body)
        except h2.exceptions.H2Error as error:
            raise LocalProtocolError("the response cannot be sent now") from error
        outbound.started = True
        if body:
            self.send_data(stream_id, body, end=end)
        elif end:
            self._forget(stream_id)

    def send_data(self, stream_id: int, data: bytes, *, end: bool) -> None:
        outbound = self._outbound(stream_id)
        if outbound is None:
            return
        if not outbound.started or outbound.ended:
            raise LocalProtocolError("the stream is not open for data")
        outbound.add(data)
        outbound.ended = end
        if outbound.size or end:
            self._waiting[stream_id] = outbound

    def reset_stream(self, stream_id: int) -> None:
        self._forget(stream_id)
        try:
            self._h2.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
        except h2.exceptions.H2Error:
            # It ended meanwhile, which is as good.
            pass

    def ping(self) -> None:
        if not self._closed:
            self._h2.ping(bytes(8))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._h2.close_connection()

    def buffered_bytes(self, stream_id: int) -> int:
        """What flow control holds back of a stream."""
        outbound = self._streams.get(stream_id)
        return outbound.size if outbound is not None else 0

    def data_to_send(self) -> bytes:
        if not self._waiting:
            return self._h2.data_to_send()
        # The head of a response goes before its body.
        self._out += self._h2.data_to_send()
        self._pump()
        data = bytes(self._out)
        self._out.clear()
        return data

    def _pump(self) -> None:
        """Sends one frame of each waiting stream in turn, until the windows are used up."""
        if self._closed:
            return
        progress = True
        while progress:
            progress = False
            for stream_id, outbound in list(self._waiting.items()):
                progress |= self._send_frame(stream_id, outbound)

    def _send_frame(self, stream_id: int, outbound: _Outbound) -> bool:
        try:
            window = self._h2.local_flow_control_window(stream_id)
            limit = min(window, self._h2.max_outbound_frame_size)
            if outbound.size and limit <= 0:
                return False
            data = outbound.take(limit)
            end = outbound.ended and not outbound.size
            if end:
                self._h2.send_data(stream_id, data, end_stream=True)
                self._out += self._h2.data_to_send()
            else:
                self._put_data(stream_id, data)
        except h2.exceptions.H2Error:
            # The stream is gone although nothing was said about it, as after a GOAWAY.
            self._forget(stream_id)
            return True
        if end:
            self._forget(stream_id)
        elif not outbound.size:
            del self._waiting[stream_id]
        return True

    def _put_data(self, stream_id: int, data: bytes) -> None:
        """A DATA frame that ends nothing; in the library it takes as long as sealing and writing it."""
        stream = self._h2.streams[stream_id]
        self._h2.outbound_flow_control_window -= len(data)
        stream.outbound_flow_control_window -= len(data)
        self._out += _FRAME_HEADER.pack(len(data) >> 8, len(data) & 0xFF, _DATA, 0, stream_id)
        self._out += data

    def _open(self, stream_id: int) -> _Outbound:
        self._highest_stream_id = max(self._highest_stream_id, stream_id)
        outbound = self._streams[stream_id] = _Outbound()
        return outbound

    def _forget(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)
        self._waiting.pop(stream_id, None)

    def _outbound(self, stream_id: int) -> _Outbound | None:
        if stream_id > self._highest_stream_id:
            raise LocalProtocolError(f"there is no stream {stream_id}")
        return self._streams.get(stream_id)

    def _require_open(self) -> None:
        if self._closed:
            raise LocalProtocolError("the connection is closed")


def _lowered(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in headers]


def _split(headers: Sequence[tuple[bytes, bytes]]) -> tuple[dict[str, str], Headers]:
    decoded = [(name.decode(errors="replace"), value.decode(errors="replace")) for name, value in headers]
    pseudo = {name: value for name, value in decoded if name.startswith(":")}
    return pseudo, tuple((name, value) for name, value in decoded if not name.startswith(":"))
