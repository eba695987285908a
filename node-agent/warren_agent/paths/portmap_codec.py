"""Bytes of NAT-PMP (RFC 6886) and PCP (RFC 6887), as far as one UDP mapping needs them. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError

PORT: Final = 5351
OK: Final = 0
UNSUPPORTED_VERSION: Final = 1

_PMP: Final = 0
_PCP: Final = 2
_RESPONSE: Final = 0x80
_EXTERNAL_ADDRESS: Final = 0
_MAP: Final = 1
_UDP: Final = 17
_NO_ADDRESS: Final = bytes(10) + b"\xff\xff" + bytes(4)


@dataclass(frozen=True, slots=True)
class PmpAddress:
    """What the router's public address is."""

    result: int
    epoch: int
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class PmpMapping:
    result: int
    epoch: int
    internal_port: int
    external_port: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class PcpMapping:
    result: int
    epoch: int
    lifetime: int
    nonce: bytes
    internal_port: int
    external: AddrPort | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A result that came without the rest: the router does not know the version it was asked in."""

    version: int
    result: int


Answer = PmpAddress | PmpMapping | PcpMapping | Refusal


def pmp_address_request() -> bytes:
    return bytes((_PMP, _EXTERNAL_ADDRESS))


def pmp_map_request(internal_port: int, external_port: int, lifetime: int) -> bytes:
    return struct.pack("!BBHHHI", _PMP, _MAP, 0, internal_port, external_port, lifetime)


def pcp_map_request(
    client: IPv4Address, nonce: bytes, internal_port: int, external: AddrPort | None, lifetime: int
) -> bytes:
    """`external` is what we had, or None."""
    header = struct.pack("!BBHI16s", _PCP, _MAP, 0, lifetime, _mapped(client))
    port = external.port if external is not None else internal_port
    address = _NO_ADDRESS if external is None else external.to_wire18()[:16]
    return header + struct.pack("!12sB3xHH16s", nonce, _UDP, internal_port, port, address)


def _mapped(address: IPv4Address) -> bytes:
    return _NO_ADDRESS[:12] + address.packed


def parse_answer(data: bytes) -> Answer:
    if len(data) < 4 or not data[1] & _RESPONSE:
        raise DecodeError("not an answer")
    match data[0]:
        case 0:
            return _parse_pmp(data)
        case 2:
            return _parse_pcp(data)
        case version:
            raise DecodeError(f"an answer of version {version}")


def _parse_pmp(data: bytes) -> Answer:
    operation, result = data[1] & ~_RESPONSE, int.from_bytes(data[2:4], "big")
    if operation == _EXTERNAL_ADDRESS and len(data) >= 12:
        epoch, address = struct.unpack_from("!I4s", data, 4)
        return PmpAddress(result, epoch, IPv4Address(address))
    if operation == _MAP and len(data) >= 16:
        return PmpMapping(result, *struct.unpack_from("!IHHI", data, 4))
    if result != OK:
        return Refusal(_PMP, result)
    raise DecodeError("a NAT-PMP answer is cut off")


def _parse_pcp(data: bytes) -> Answer:
    result = data[3]
    if data[1] & ~_RESPONSE != _MAP or len(data) < 60:
        if result != OK:
            return Refusal(_PCP, result)
        raise DecodeError("a PCP answer is cut off or of another kind")
    lifetime, epoch = struct.unpack_from("!II", data, 4)
    nonce, protocol, internal, port, packed = struct.unpack_from("!12sB3xHH16s", data, 24)
    if protocol != _UDP:
        raise DecodeError("a PCP answer about another protocol")
    address = IPv6Address(packed).ipv4_mapped
    external = None if address is None or port == 0 else AddrPort(address, port)
    return PcpMapping(result, epoch, lifetime, nonce, internal, external)
