"""The PROXY protocol, versions 1 and 2: a proxy's first bytes, which say whose connection it passes on.

The specification is HAProxy's `proxy-protocol.txt`. Checksums and other extensions are skipped. No I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError

SHORTEST_BYTES: Final = 15
"""`PROXY UNKNOWN` and its line end; no header of either version is shorter."""
MAX_BYTES: Final = 4096
"""Addresses take 232 bytes at most; the rest is room for extensions, such as a client's certificate name."""

_SIGNATURE_V1: Final = b"PROXY "
_SIGNATURE_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_MAX_V1_BYTES: Final = 107
_FIXED_V2_BYTES: Final = 16
_LINE_V1: Final = re.compile(
    rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_SIZES: Final = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A whole header. No `source` means that the proxy speaks for itself, as in its health checks."""

    length: int
    source: AddrPort | None
    destination: AddrPort | None


def begins(data: bytes) -> bool:
    """Whether these first bytes of a connection may be a header, as far as they go."""
    return any(data[: len(mark)] == mark[: len(data)] for mark in (_SIGNATURE_V1, _SIGNATURE_V2))


def decode(data: bytes) -> ProxyHeader | int:
    """The header at the start, or the least number of bytes that could hold it (DecodeError if none does)."""
    if not begins(data):
        raise DecodeError("not a PROXY header")
    if len(data) < SHORTEST_BYTES:
        return SHORTEST_BYTES
    return _decode_v1(data) if data.startswith(_SIGNATURE_V1) else _decode_v2(data)


def encode_v1(source: AddrPort, destination: AddrPort) -> bytes:
    """Both of one family."""
    family = _family(source, destination)
    line = f"PROXY TCP{family} {source.ip} {destination.ip} {source.port} {destination.port}\r\n"
    return line.encode()


def encode_v2(source: AddrPort, destination: AddrPort, extensions: bytes = b"") -> bytes:
    """Both of one family; `extensions` are type-length-value triples, already encoded."""
    kind = _TCP4 if _family(source, destination) == 4 else _TCP6
    ports = source.port.to_bytes(2, "big") + destination.port.to_bytes(2, "big")
    body = source.ip.packed + destination.ip.packed + ports + extensions
    return _SIGNATURE_V2 + bytes((_PROXY, kind)) + len(body).to_bytes(2, "big") + body


def encode_local_v2() -> bytes:
    """The proxy's own connection."""
    return _SIGNATURE_V2 + bytes((_LOCAL, _UNSPECIFIED, 0, 0))


def _family(source: AddrPort, destination: AddrPort) -> int:
    if source.ip.version != destination.ip.version:
        raise ValueError("both addresses must be of one family")
    return source.ip.version


def _decode_v1(data: bytes) -> ProxyHeader | int:
    end = data.find(b"\r\n", 0, _MAX_V1_BYTES)
    if end < 0:
        if len(data) >= _MAX_V1_BYTES:
            raise DecodeError("a PROXY line is too long")
        return len(data) + 1
    line = data[: end + 2]
    if line.startswith(b"PROXY UNKNOWN") and line[13:14] in (b" ", b"\r"):
        return ProxyHeader(len(line), None, None)
    match = _LINE_V1.fullmatch(line)
    if match is None:
        raise DecodeError("a PROXY line is malformed")
    version, source, destination, source_port, destination_port = match.groups()
    ports = int(source_port), int(destination_port)
    if max(ports) > 0xFFFF:
        raise DecodeError("a PROXY line has a port that is none")
    kind = IPv4Address if version == b"4" else IPv6Address
    try:
        addresses = kind(source.decode()), kind(destination.decode())
    except ValueError:
        raise DecodeError("a PROXY line has an address that is none") from None
    return ProxyHeader(len(line), _endpoint(addresses[0], ports[0]), _endpoint(addresses[1], ports[1]))


def _decode_v2(data: bytes) -> ProxyHeader | int:
    if len(data) < _FIXED_V2_BYTES:
        return _FIXED_V2_BYTES
    command, kind = data[12], data[13]
    length = _FIXED_V2_BYTES + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise DecodeError("a PROXY header has an unknown version or command")
    if length > MAX_BYTES:
        raise DecodeError("a PROXY header is too long")
    if command == _PROXY and (kind not in _SIZES or length < _FIXED_V2_BYTES + _SIZES[kind]):
        raise DecodeError("a PROXY header has unknown or shortened addresses")
    if len(data) < length:
        return length
    if command == _LOCAL or kind in (_UNSPECIFIED, _UNIX):
        return ProxyHeader(length, None, None)
    size = 4 if kind == _TCP4 else 16
    make = IPv4Address if kind == _TCP4 else IPv6Address
    at = _FIXED_V2_BYTES
    source, destination = data[at : at + size], data[at + size : at + 2 * size]
    at += 2 * size
    ports = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
    return ProxyHeader(length, _endpoint(make(source), ports[0]), _endpoint(make(destination), ports[1]))


def _endpoint(address: IPv4Address | IPv6Address, port: int) -> AddrPort:
    # Proxies that listen on both families write IPv4 clients as mapped addresses.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return AddrPort(mapped or address, port)
