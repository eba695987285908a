"""STUN Binding (RFC 8489): "which address and port do you see me at". Request and response only.

    0  type u16     request 0x0001, success response 0x0101
    2  length u16   bytes after the 20-byte header
    4  cookie u32   0x2112A442
    8  transaction id, 12 bytes
   20  attributes   type u16, length u16, value padded to 4

Requests are laid out as stock clients send them, because stock relays answer nothing else: SOFTWARE
`tailnode`, then FINGERPRINT, 40 bytes in all.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from .addresses import AddrPort
from .errors import DecodeError

TXID_BYTES: Final = 12
HEADER_BYTES: Final = 20
REQUEST_BYTES: Final = 40

_COOKIE: Final = bytes.fromhex("2112a442")
_REQUEST: Final = b"\x00\x01"
_RESPONSE: Final = b"\x01\x01"
_SOFTWARE: Final = bytes.fromhex("80220008") + b"tailnode"
_FINGERPRINT: Final = 0x8028
_FINGERPRINT_XOR: Final = 0x5354554E
_MAPPED_ADDRESS: Final = 0x0001
_XOR_MAPPED_ADDRESS: Final = 0x0020
_XOR_MAPPED_ADDRESS_OLD: Final = 0x8020


def looks_like_stun(data: bytes) -> bool:
    """Whether a datagram on a port shared with WireGuard is STUN.

    WireGuard has a random index where STUN has the cookie, but always a zero in byte 1.
    """
    return len(data) >= HEADER_BYTES and data[4:8] == _COOKIE and data[0] < 0x40 and data[1] == 1


def binding_request(txid: bytes) -> bytes:
    """The 40-byte request; `txid` is 12 fresh random bytes."""
    if len(txid) != TXID_BYTES:
        raise ValueError(f"a transaction id has {TXID_BYTES} bytes")
    body = _REQUEST + b"\x00\x14" + _COOKIE + txid + _SOFTWARE
    fingerprint = zlib.crc32(body) ^ _FINGERPRINT_XOR
    return body + b"\x80\x28\x00\x04" + fingerprint.to_bytes(4, "big")


def parse_binding_request(data: bytes) -> bytes:
    """The transaction id of any well-formed Binding request.

    SOFTWARE and FINGERPRINT are optional; a FINGERPRINT that is present must be last and right.
    """
    if not looks_like_stun(data) or data[:2] != _REQUEST:
        raise DecodeError("not a STUN binding request")
    end = HEADER_BYTES + int.from_bytes(data[2:4], "big")
    if end != len(data):
        raise DecodeError("the STUN length does not fit the datagram")
    for start, kind, value in _attributes(data, end):
        if kind == _FINGERPRINT:
            expected = zlib.crc32(data[:start]) ^ _FINGERPRINT_XOR
            if start + 8 != end or value != expected.to_bytes(4, "big"):
                raise DecodeError("the STUN fingerprint is wrong")
    return data[8:HEADER_BYTES]


def binding_response(txid: bytes, source: AddrPort) -> bytes:
    """The answer: where the request came from, as XOR-MAPPED-ADDRESS and nothing else."""
    if len(txid) != TXID_BYTES:
        raise ValueError(f"a transaction id has {TXID_BYTES} bytes")
    packed = source.ip.packed
    family = 1 if len(packed) == 4 else 2
    port = source.port ^ 0x2112
    value = bytes((0, family)) + port.to_bytes(2, "big") + _xor(packed, _COOKIE + txid)
    attribute = _XOR_MAPPED_ADDRESS.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
    return _RESPONSE + len(attribute).to_bytes(2, "big") + _COOKIE + txid + attribute


def parse_binding_response(data: bytes) -> tuple[bytes, AddrPort]:
    """Transaction id and mapped address; bytes after the stated length are ignored.

    Stock relays answer IPv4 clients with the address mapped into IPv6; it is unmapped here.
    """
    if not looks_like_stun(data):
        raise DecodeError("not STUN")
    if data[:2] != _RESPONSE:
        raise DecodeError("not a STUN success response")
    end = HEADER_BYTES + int.from_bytes(data[2:4], "big")
    if end > len(data):
        raise DecodeError("the STUN message is cut short")
    txid = data[8:HEADER_BYTES]
    plain: AddrPort | None = None
    for _, kind, value in _attributes(data, end):
        if kind in (_XOR_MAPPED_ADDRESS, _XOR_MAPPED_ADDRESS_OLD):
            return txid, _address(value, _COOKIE + txid)
        if kind == _MAPPED_ADDRESS and plain is None:
            plain = _address(value, bytes(16))
    if plain is None:
        raise DecodeError("the STUN response has no address")
    return txid, plain


def _attributes(data: bytes, end: int) -> Iterator[tuple[int, int, bytes]]:
    """(offset, type, value) of each attribute up to `end`."""
    offset = HEADER_BYTES
    while offset < end:
        if end - offset < 4:
            raise DecodeError("a STUN attribute is cut short")
        kind = int.from_bytes(data[offset : offset + 2], "big")
        length = int.from_bytes(data[offset + 2 : offset + 4], "big")
        value_end = offset + 4 + length
        if value_end > end:
            raise DecodeError("a STUN attribute runs past the message")
        yield offset, kind, data[offset + 4 : value_end]
        offset = value_end + -length % 4


def _address(value: bytes, mask: bytes) -> AddrPort:
    packed = _xor(value[4:], mask)
    port = int.from_bytes(_xor(value[2:4], mask[:2]), "big")
    match len(packed):
        case 4 if len(value) == 8:
            return AddrPort(IPv4Address(packed), port)
        case 16:
            address = IPv6Address(packed)
            return AddrPort(address.ipv4_mapped or address, port)
        case _:
            raise DecodeError("a STUN address has 4 or 16 bytes")


def _xor(data: bytes, mask: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(data, mask, strict=False)) if len(data) <= len(mask) else b""
