"""What a TLS client says first: the server's name it wants and the protocols it offers. No I/O.

Enough to tell a certificate authority's check (RFC 8737) from a client before the handshake begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from warren_wire.errors import DecodeError

RECORD_HEADER_BYTES: Final = 5
MAX_BYTES: Final = RECORD_HEADER_BYTES + (1 << 14)

_HANDSHAKE, _CLIENT_HELLO = 0x16, 0x01
_SERVER_NAME, _HOST_NAME, _ALPN = 0, 0, 16


@dataclass(frozen=True, slots=True)
class ClientHello:
    """`server_name` is empty where the client names none."""

    server_name: str
    protocols: tuple[bytes, ...]


def decode(data: bytes) -> ClientHello | int:
    """The hello, or the least number of bytes that could hold it (DecodeError if these are none).

    One that goes on in a second record is refused: only hellos beyond 16 KiB have to.
    """
    if data and data[0] != _HANDSHAKE:
        raise DecodeError("not a TLS handshake")
    if len(data) < RECORD_HEADER_BYTES:
        return RECORD_HEADER_BYTES
    length = RECORD_HEADER_BYTES + int.from_bytes(data[3:5], "big")
    if length > MAX_BYTES:
        raise DecodeError("a TLS record is too long")
    if len(data) < length:
        return length
    message = _Reader(data[RECORD_HEADER_BYTES:length])
    if message.number(1) != _CLIENT_HELLO:
        raise DecodeError("not a ClientHello")
    hello = message.vector(3)
    hello.take(2 + 32)  # version and random
    hello.vector(1)  # session
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression
    return _extensions(hello.vector(2)) if hello.left else ClientHello("", ())


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise DecodeError("a ClientHello ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Reader:
        """Bytes behind their length, which takes `size` bytes itself."""
        return _Reader(self.take(self.number(size)))


def _extensions(extensions: _Reader) -> ClientHello:
    name, protocols = "", []
    while extensions.left:
        kind, body = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            names = body.vector(2)
            while names.left:
                is_host, text = names.number(1) == _HOST_NAME, names.vector(2)
                if is_host:
                    name = text.take(text.left).decode("ascii", "replace").lower()
        elif kind == _ALPN:
            offered = body.vector(2)
            while offered.left:
                protocol = offered.vector(1)
                protocols.append(protocol.take(protocol.left))
    return ClientHello(name, tuple(protocols))
