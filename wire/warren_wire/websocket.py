"""The server's side of WebSocket (RFC 6455) as a byte stream: message boundaries mean nothing.

For protocols that browsers can only speak in WebSocket messages. No extensions, no text. No I/O.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Final

from warren_wire.errors import DecodeError

MAX_FRAME_BYTES: Final = 1 << 20
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA


def upgrade_response(headers: Mapping[str, str], protocol: str) -> bytes:
    """The 101 answer to a request with these lower-case headers (DecodeError if it is no such request)."""
    key = headers.get("sec-websocket-key", "")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        valid = False
    if not valid or headers.get("sec-websocket-version") != "13":
        raise DecodeError("not a WebSocket request of version 13")
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
    lines = (
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept,
        b"Sec-WebSocket-Protocol: " + protocol.encode(),
        b"",
        b"",
    )
    return b"\r\n".join(lines)


def encode(data: bytes) -> bytes:
    """One binary message."""
    return _header(_BINARY, len(data)) + data


class WebSocketReader:
    """Feed it what arrives; take the stream's bytes from it, and what has to be answered."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._replies: list[bytes] = []
        self._in_message = False
        self.closed = False
        """The client has said goodbye; the answer to it is in `replies`."""

    def receive_data(self, data: bytes) -> bytes:
        """The stream's bytes in `data`; DecodeError when the client breaks the rules."""
        self._pending += data
        payloads: list[bytes] = []
        while not self.closed:
            frame = self._next_frame()
            if frame is None:
                break
            self._receive_frame(*frame, payloads)
        return b"".join(payloads)

    def replies(self) -> bytes:
        """Pongs and the answer to a goodbye; a second call returns nothing."""
        data = b"".join(self._replies)
        self._replies.clear()
        return data

    def _receive_frame(self, kind: int, final: bool, payload: bytes, payloads: list[bytes]) -> None:
        if kind in (_BINARY, _CONTINUATION):
            if (kind == _CONTINUATION) is not self._in_message:
                raise DecodeError("a WebSocket message began in another")
            self._in_message = not final
            payloads.append(payload)
        elif not final or len(payload) > 125:
            raise DecodeError("a WebSocket control frame is too long")
        elif kind == _CLOSE:
            self.closed = True
            self._replies.append(_header(_CLOSE, len(payload[:2])) + payload[:2])
        elif kind == _PING:
            # One answer shows life; a flood of pings must not fill memory.
            if not self._replies:
                self._replies.append(_header(_PONG, len(payload)) + payload)
        elif kind != _PONG:
            raise DecodeError("a WebSocket frame of a kind that is not served")

    def _next_frame(self) -> tuple[int, bool, bytes] | None:
        pending = self._pending
        if len(pending) < 2:
            return None
        if pending[0] & 0x70 or not pending[1] & 0x80:
            raise DecodeError("a WebSocket frame without mask or with unknown bits")
        length, start = pending[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(pending) < start:
                return None
            length = int.from_bytes(pending[2:start], "big")
        if length > MAX_FRAME_BYTES:
            raise DecodeError("a WebSocket frame is too long")
        end = start + 4 + length
        if len(pending) < end:
            return None
        payload = _unmask(bytes(pending[start + 4 : end]), bytes(pending[start : start + 4]))
        kind, final = pending[0] & 0x0F, bool(pending[0] & 0x80)
        del pending[:end]
        return kind, final, payload


def _unmask(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    pad = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


def _header(kind: int, length: int) -> bytes:
    if length < 126:
        return bytes((0x80 | kind, length))
    if length < 1 << 16:
        return bytes((0x80 | kind, 126)) + length.to_bytes(2, "big")
    return bytes((0x80 | kind, 127)) + length.to_bytes(8, "big")
