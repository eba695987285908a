"""Disco: how two nodes find out which addresses reach each other.

Envelope, the whole of a UDP datagram or of a DERP packet:

    0  magic "TS" + speech balloon, 6 bytes
    6  sender's disco public key, 32
   38  nonce, 24
   62  NaCl box of the message

Message: type u8, version u8, payload. Bytes after a known payload are ignored, unknown types and versions
are no error: that is how the protocol grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .addresses import AddrPort
from .crypto import BOX_NONCE_BYTES, BOX_OVERHEAD_BYTES, SharedBox
from .errors import DecodeError
from .keys import DiscoPublic, NodePublic

MAGIC: Final = b"TS\xf0\x9f\x92\xac"
HEADER_BYTES: Final = 62
TXID_BYTES: Final = 12
PING_BYTES: Final = 124
"""Datagram length of an unpadded ping that names its node."""
PONG_BYTES: Final = 110

MAX_ENDPOINTS: Final = 256
"""More than any node has; the rest of a longer list is ignored."""

_PING: Final = 0x01
_PONG: Final = 0x02
_CALL_ME_MAYBE: Final = 0x03
_VERSION: Final = 0
_ENDPOINT_BYTES: Final = 18


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a pong with the same transaction id. The node key is a hint; `padding` probes the path MTU."""

    txid: bytes
    node_key: NodePublic | None = None
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a ping; `source` is where the ping was seen to come from."""

    txid: bytes
    source: AddrPort


@dataclass(frozen=True, slots=True)
class CallMeMaybe:
    """ "I have just pinged you from all of these, ping me back now." Only through a relay."""

    endpoints: tuple[AddrPort, ...]


Message = Ping | Pong | CallMeMaybe


def looks_like_disco(data: bytes) -> bool:
    """Whether a datagram is an envelope; plain WireGuard has zeros where the magic has `f0 9f`."""
    return data[:6] == MAGIC and len(data) >= HEADER_BYTES


def sender_of(data: bytes) -> DiscoPublic:
    """The key in the envelope, to find the peer before any cryptography."""
    if not looks_like_disco(data):
        raise DecodeError("not disco")
    return DiscoPublic(data[6:38])


def seal(message: Message, sender: DiscoPublic, box: SharedBox, nonce: bytes) -> bytes:
    """The envelope. `box` is of the private key of the sender and the public one of the receiver."""
    if len(nonce) != BOX_NONCE_BYTES:
        raise ValueError(f"a nonce has {BOX_NONCE_BYTES} bytes")
    return b"".join((MAGIC, sender.raw, nonce, box.seal(nonce, encode(message))))


def open_message(data: bytes, box: SharedBox) -> Message | None:
    """The message inside, or None for a type or version that is not known here.

    DecodeError when it is no disco message, AuthenticationError when the box does not open.
    """
    if not looks_like_disco(data):
        raise DecodeError("not disco")
    if len(data) < HEADER_BYTES + BOX_OVERHEAD_BYTES:
        raise DecodeError("the disco envelope is cut short")
    return parse(box.open(data[38:HEADER_BYTES], data[HEADER_BYTES:]))


def encode(message: Message) -> bytes:
    """Type, version and payload."""
    match message:
        case Ping(txid, node_key, padding):
            if padding and node_key is None:
                raise ValueError("padding would be read as the node key")
            key = node_key.raw if node_key is not None else b""
            return bytes((_PING, _VERSION)) + _checked(txid) + key + bytes(padding)
        case Pong(txid, source):
            return bytes((_PONG, _VERSION)) + _checked(txid) + source.to_wire18()
        case CallMeMaybe(endpoints):
            return bytes((_CALL_ME_MAYBE, _VERSION)) + b"".join(item.to_wire18() for item in endpoints)


def parse(data: bytes) -> Message | None:
    """The message in the bytes of an opened box, or None for an unknown type or version."""
    if len(data) < 2:
        raise DecodeError("a disco message has a type and a version")
    kind, version, payload = data[0], data[1], data[2:]
    if kind == _CALL_ME_MAYBE:
        return _parse_call_me_maybe(version, payload)
    if version != _VERSION:
        return None
    match kind:
        case 0x01:
            return _parse_ping(payload)
        case 0x02:
            if len(payload) < TXID_BYTES + _ENDPOINT_BYTES:
                raise DecodeError("a pong is cut short")
            source = AddrPort.from_wire18(payload[TXID_BYTES : TXID_BYTES + _ENDPOINT_BYTES])
            return Pong(payload[:TXID_BYTES], source)
        case _:
            return None


def _parse_ping(payload: bytes) -> Ping:
    if len(payload) < TXID_BYTES:
        raise DecodeError("a ping is cut short")
    txid, rest = payload[:TXID_BYTES], payload[TXID_BYTES:]
    if len(rest) < 32:
        # Very old clients name no node.
        return Ping(txid)
    return Ping(txid, NodePublic(rest[:32]), len(rest) - 32)


def _parse_call_me_maybe(version: int, payload: bytes) -> CallMeMaybe:
    # Stock reads a list it does not understand as an empty one, which still makes the receiver ping.
    if version != _VERSION or len(payload) % _ENDPOINT_BYTES:
        return CallMeMaybe(())
    limit = min(len(payload), MAX_ENDPOINTS * _ENDPOINT_BYTES)
    starts = range(0, limit, _ENDPOINT_BYTES)
    return CallMeMaybe(tuple(AddrPort.from_wire18(payload[at : at + _ENDPOINT_BYTES]) for at in starts))


def _checked(txid: bytes) -> bytes:
    if len(txid) != TXID_BYTES:
        raise ValueError(f"a transaction id has {TXID_BYTES} bytes")
    return txid
