"""TSMP: signals between two nodes inside their tunnel, as the payload of IP protocol 99.

    '!' rejected   protocol u8, reason u8, source port u16, destination port u16, flags u8 (may lack)
    'p' ping       8 bytes of the sender's choice
    'o' pong       the same 8 bytes, port u16 of the sender's peer API, 0 for none
    'a' advert     the sender's disco key, 32 bytes

WireGuard has authenticated what carries them. Longer messages are read as far as they are known, other
kinds are None: newer versions may say more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from .errors import DecodeError
from .keys import DiscoPublic

IP_PROTOCOL: Final = 99
PING_BYTES: Final = 8

_REJECTED: Final = 0x21
_PING: Final = 0x70
_PONG: Final = 0x6F
_ADVERT: Final = 0x61
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class TsmpPing:
    """Answer with a `TsmpPong` of the same bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TsmpPong:
    data: bytes
    peerapi_port: int = 0


@dataclass(frozen=True, slots=True)
class DiscoAdvert:
    """The sender's disco key is this from now on."""

    key: DiscoPublic


@dataclass(frozen=True, slots=True)
class Rejected:
    """The sender let a flow of ours not in. `reason` is a letter: A policy, S shields up, F no forwarding,
    W its firewall, T an unknown address."""

    protocol: int
    reason: str
    source_port: int
    destination_port: int
    maybe_broken: bool = False


TsmpMessage = TsmpPing | TsmpPong | DiscoAdvert | Rejected


def encode(message: TsmpMessage) -> bytes:
    match message:
        case TsmpPing(data):
            return bytes((_PING,)) + _eight(data)
        case TsmpPong(data, port):
            return bytes((_PONG,)) + _eight(data) + port.to_bytes(2, "big")
        case DiscoAdvert(key):
            return bytes((_ADVERT,)) + key.raw
        case Rejected(protocol, reason, source, destination, broken):
            return struct.pack("!BBBHHB", _REJECTED, protocol, ord(reason), source, destination, broken)


def parse(payload: bytes) -> TsmpMessage | None:
    """None for a kind that we do not know; raises `DecodeError` for a known one that is cut off."""
    if not payload:
        raise DecodeError("an empty TSMP message")
    body = payload[1:]
    match payload[0]:
        case 0x70:
            return TsmpPing(_taken(body, PING_BYTES))
        case 0x6F:
            # The port came later than the rest.
            port = int.from_bytes(body[PING_BYTES : PING_BYTES + 2], "big") if len(body) >= 10 else 0
            return TsmpPong(_taken(body, PING_BYTES), port)
        case 0x61:
            return DiscoAdvert(DiscoPublic(_taken(body, _KEY_BYTES)))
        case 0x21:
            protocol, reason, source, destination = struct.unpack("!BBHH", _taken(body, 6))
            broken = bool(body[6] & 1) if len(body) > 6 else False
            return Rejected(protocol, chr(reason), source, destination, broken)
        case _:
            return None


def _eight(data: bytes) -> bytes:
    if len(data) != PING_BYTES:
        raise ValueError(f"a TSMP ping carries {PING_BYTES} bytes")
    return data


def _taken(body: bytes, size: int) -> bytes:
    if len(body) < size:
        raise DecodeError("a TSMP message is cut off")
    return body[:size]
