"""UDP and IP headers written and read by hand, and what kernels merge taken apart again. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from warren_wire import disco, stun
from warren_wire.addresses import AddrPort

UDP_HEADER_BYTES: Final = 8
IPV4_HEADER_BYTES: Final = 20
IPPROTO_UDP: Final = 17

DISCO_TAIL_BYTES: Final = (92, disco.PONG_BYTES, disco.PING_BYTES)
"""Lengths of the disco messages that may hide at the end of a merged datagram: ping of old clients, pong,
ping."""

STUN_TAIL_BYTES: Final = (32, 44)
"""Lengths of STUN answers, IPv4 and IPv6."""


def checksum(*parts: bytes) -> int:
    """The Internet checksum of the parts one after the other; only the last may have an odd length."""
    data = b"".join(parts)
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_datagram(source: AddrPort, destination: AddrPort, payload: bytes) -> bytes:
    """UDP header with a right checksum, and the payload. Both addresses are of one family."""
    length = UDP_HEADER_BYTES + len(payload)
    ports = struct.pack("!HHH", source.port, destination.port, length)
    pseudo = source.ip.packed + destination.ip.packed + struct.pack("!II", length, IPPROTO_UDP)
    # Zero on the wire means "no checksum", so a sum of zero is written as its other form.
    value = checksum(pseudo, ports, b"\0\0", payload) or 0xFFFF
    return ports + value.to_bytes(2, "big") + payload


def udp_header_only(source_port: int, destination_port: int, length: int) -> bytes:
    """A header for a kernel that fills in the checksum; `length` is that of the payload."""
    return struct.pack("!HHHH", source_port, destination_port, UDP_HEADER_BYTES + length, 0)


def ipv4_packet(source: AddrPort, destination: AddrPort, payload: bytes) -> bytes:
    """A whole packet for a socket with IP_HDRINCL; the kernel fills in checksum, id and total length.

    The UDP checksum is left out, which IPv4 allows: such packets only ever cross the loopback interface.
    """
    length = IPV4_HEADER_BYTES + UDP_HEADER_BYTES + len(payload)
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, IPPROTO_UDP, 0, source.ip.packed, destination.ip.packed
    )
    return head + udp_header_only(source.port, destination.port, len(payload)) + payload


def ipv6_packet(source: AddrPort, destination: AddrPort, payload: bytes) -> bytes:
    """A whole packet with all its checksums: without that of UDP, IPv6 receivers drop it."""
    length = UDP_HEADER_BYTES + len(payload)
    head = struct.pack("!IHBB", 6 << 28, length, IPPROTO_UDP, 64)
    return head + source.ip.packed + destination.ip.packed + udp_datagram(source, destination, payload)


@dataclass(frozen=True, slots=True)
class Received:
    """What a raw socket heard on WireGuard's port."""

    source: AddrPort
    local: IPv4Address | IPv6Address
    payload: bytes


def parse_ipv4(data: bytes) -> Received | None:
    """The datagram in a packet from a raw IPv4 socket, None if it is cut short."""
    if len(data) < IPV4_HEADER_BYTES:
        return None
    header = (data[0] & 0x0F) * 4
    if data[0] >> 4 != 4 or header < IPV4_HEADER_BYTES or len(data) < header + UDP_HEADER_BYTES:
        return None
    port = int.from_bytes(data[header : header + 2], "big")
    payload = data[header + UDP_HEADER_BYTES :]
    return Received(AddrPort(IPv4Address(data[12:16]), port), IPv4Address(data[16:20]), payload)


def split_merged(payload: bytes) -> list[bytes]:
    """The disco and STUN messages in a payload.

    A WireGuard socket that takes merged datagrams makes the kernel merge before raw sockets see them: control
    messages may then stand one after the other, or behind WireGuard data.
    """
    at = _first_message(payload)
    if at is None:
        return []
    rest = payload[at:]
    if stun.looks_like_stun(rest):
        end = stun.HEADER_BYTES + int.from_bytes(rest[2:4], "big")
        return [rest[:end], *split_merged(rest[end:])]
    following = _next_message(rest)
    return [rest[:following], *split_merged(rest[following:])]


def _first_message(payload: bytes) -> int | None:
    if disco.looks_like_disco(payload) or stun.looks_like_stun(payload):
        return 0
    for length in (*STUN_TAIL_BYTES, *DISCO_TAIL_BYTES):
        tail = payload[-length:]
        if len(tail) == length and (disco.looks_like_disco(tail) or stun.looks_like_stun(tail)):
            return len(payload) - length
    return None


def _next_message(payload: bytes) -> int:
    """Where the message behind a disco message begins; its length if there is none."""
    found = payload.find(disco.MAGIC, disco.HEADER_BYTES)
    if found > 0:
        return found
    for length in STUN_TAIL_BYTES:
        if len(payload) >= disco.HEADER_BYTES + length and stun.looks_like_stun(payload[-length:]):
            return len(payload) - length
    return len(payload)
