"""A protocol that speaks bytes, carried in WebSocket messages over a transport."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from warren_wire import websocket
from warren_wire.errors import DecodeError


class WebSocketCarrier(asyncio.Protocol):
    """Put it on the raw transport; `inner` sees a transport and bytes as if there were no WebSocket."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self._reader = websocket.WebSocketReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._inner.connection_made(_MessageTransport(self._transport))

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        try:
            payload = self._reader.receive_data(data)
        except DecodeError:
            self._transport.close()
            return
        replies = self._reader.replies()
        if replies and self._transport.get_write_buffer_size() < websocket.MAX_FRAME_BYTES:
            self._transport.write(replies)
        if payload:
            self._inner.data_received(payload)
        if self._reader.closed:
            self._transport.close()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)


class _MessageTransport(asyncio.Transport):
    """Every write becomes one binary message."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(websocket.encode(bytes(data)))

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
