"""DERP frames: `type u8 | length u32 | payload`, big-endian, the length without these five bytes.

    0x01 ServerKey      magic 8, key 32                        server -> client
    0x02 ClientInfo     key 32, nonce 24, box(JSON)            client -> server
    0x03 ServerInfo     nonce 24, box(JSON)                    server -> client
    0x04 SendPacket     destination 32, packet                 client -> server
    0x05 RecvPacket     source 32, packet                      server -> client
    0x06 KeepAlive      -                                      server -> client
    0x07 NotePreferred  u8                                     client -> server
    0x08 PeerGone       key 32, reason u8                      server -> client
    0x09 PeerPresent    key 32, IP 16, port u16, flags u8      server -> watching relay
    0x0a ForwardPacket  source 32, destination 32, packet      relay  -> relay
    0x10 WatchConns     -                                      relay  -> relay
    0x11 ClosePeer      key 32                                 relay  -> relay
    0x12 Ping           8 opaque bytes                         either
    0x13 Pong           the same 8 bytes                       either
    0x14 Health         text, empty = healthy                  server -> client
    0x15 Restarting     reconnect-in u32 ms, try-for u32 ms    server -> client

Unknown types are skipped by their length.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from warren_wire.crypto import BOX_NONCE_BYTES, SharedBox
from warren_wire.errors import DecodeError
from warren_wire.keys import NodePublic

MAGIC: Final = b"DERP\xf0\x9f\x94\x91"
PROTOCOL_VERSION: Final = 2
HEADER_BYTES: Final = 5
KEY_BYTES: Final = 32
PING_BYTES: Final = 8
MAX_PING_BYTES: Final = 1000
"""Stock servers accept longer pings and echo the first 8 bytes."""
MAX_PACKET_BYTES: Final = 64 * 1024
MAX_CLIENT_INFO_BYTES: Final = 256 * 1024
MESH_KEY_BYTES: Final = 32
MAX_FRAME_BYTES: Final = 1 << 20
"""Stock clients drop a connection on anything larger; the same bound holds for frames we skip."""


class FrameType(enum.IntEnum):
    """The types with a meaning; WATCH_CONNS, CLOSE_PEER and FORWARD_PACKET are for relays of one region."""

    SERVER_KEY = 0x01
    CLIENT_INFO = 0x02
    SERVER_INFO = 0x03
    SEND_PACKET = 0x04
    RECV_PACKET = 0x05
    KEEP_ALIVE = 0x06
    NOTE_PREFERRED = 0x07
    PEER_GONE = 0x08
    PEER_PRESENT = 0x09
    FORWARD_PACKET = 0x0A
    WATCH_CONNS = 0x10
    CLOSE_PEER = 0x11
    PING = 0x12
    PONG = 0x13
    HEALTH = 0x14
    RESTARTING = 0x15


class PeerGoneReason(enum.IntEnum):
    """Why a relay has no way to a peer."""

    DISCONNECTED = 0
    NOT_HERE = 1


class ClientInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client says about itself. Unknown keys are ignored."""

    version: int = 0
    mesh_key: str = msgspec.field(default="", name="meshKey")
    can_ack_pings: bool = msgspec.field(default=False, name="CanAckPings")
    is_prober: bool = msgspec.field(default=False, name="IsProber")
    app_name: str = msgspec.field(default="", name="AppName")

    def __repr__(self) -> str:
        return f"ClientInfo(version={self.version}, relay={bool(self.mesh_key)}, app_name={self.app_name!r})"


class ServerInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server says about itself. A rate, if given, is what the client limits its own sending to."""

    version: int = 0
    bytes_per_second: int = msgspec.field(default=0, name="TokenBucketBytesPerSecond")
    bytes_burst: int = msgspec.field(default=0, name="TokenBucketBytesBurst")


Frame = tuple[int, bytes]
"""Type and payload; the type may be unknown."""

_LIMITS: Final[Mapping[int, int]] = {
    FrameType.SERVER_KEY: 4096,
    FrameType.CLIENT_INFO: KEY_BYTES + MAX_CLIENT_INFO_BYTES,
    FrameType.SEND_PACKET: KEY_BYTES + MAX_PACKET_BYTES,
    FrameType.RECV_PACKET: KEY_BYTES + MAX_PACKET_BYTES,
    FrameType.FORWARD_PACKET: 2 * KEY_BYTES + MAX_PACKET_BYTES,
    FrameType.PING: MAX_PING_BYTES,
    FrameType.PONG: MAX_PING_BYTES,
    FrameType.NOTE_PREFERRED: 1,
}


class FrameReader:
    """Cuts a byte stream into frames. A frame over its limit makes everything after it unreadable."""

    __slots__ = ("_fault", "_needed", "_pending")

    def __init__(self) -> None:
        self._pending = bytearray()
        self._needed = HEADER_BYTES
        self._fault: DecodeError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by `data`. Frames before a bad one are still returned; see `check`."""
        if self._fault is not None:
            return []
        pending = self._pending
        if pending:
            pending += data
            # Bytes of a large frame are only collected until it is whole, whatever the size of the pieces.
            if len(pending) < self._needed:
                return []
            data = bytes(pending)
            pending.clear()
        frames: list[Frame] = []
        offset, size = 0, len(data)
        limits, from_bytes = _LIMITS, int.from_bytes
        self._needed = HEADER_BYTES
        while size - offset >= HEADER_BYTES:
            kind = data[offset]
            start = offset + HEADER_BYTES
            length = from_bytes(data[offset + 1 : start], "big")
            if length > limits.get(kind, MAX_FRAME_BYTES):
                self._fault = DecodeError(f"a frame of type {kind:#04x} with {length} bytes is too long")
                return frames
            if start + length > size:
                self._needed = HEADER_BYTES + length
                break
            offset = start + length
            frames.append((kind, data[start:offset]))
        pending += data[offset:]
        return frames

    def check(self) -> None:
        """Raise the fault that ended the stream, if any (DecodeError)."""
        if self._fault is not None:
            raise self._fault


def encode(kind: FrameType, payload: bytes = b"") -> bytes:
    """One frame."""
    return b"%c%b%b" % (kind, len(payload).to_bytes(4, "big"), payload)


def server_key(key: NodePublic) -> bytes:
    return encode(FrameType.SERVER_KEY, MAGIC + key.raw)


def parse_server_key(payload: bytes) -> NodePublic:
    """The server's key; bytes after it are ignored."""
    if payload[:8] != MAGIC or len(payload) < 8 + KEY_BYTES:
        raise DecodeError("not a DERP server key")
    return NodePublic(payload[8 : 8 + KEY_BYTES])


def client_info(info: ClientInfo, key: NodePublic, box: SharedBox, nonce: bytes) -> bytes:
    return encode(FrameType.CLIENT_INFO, key.raw + nonce + box.seal(nonce, msgspec.json.encode(info)))


def split_client_info(payload: bytes) -> tuple[NodePublic, bytes]:
    """The client's key and the sealed rest for `open_client_info`."""
    if len(payload) < KEY_BYTES + BOX_NONCE_BYTES:
        raise DecodeError("the client info is cut short")
    return NodePublic(payload[:KEY_BYTES]), payload[KEY_BYTES:]


def open_client_info(sealed: bytes, box: SharedBox) -> ClientInfo:
    """AuthenticationError when the box does not open: the client does not own the key it names."""
    return _decode_info(box.open(sealed[:BOX_NONCE_BYTES], sealed[BOX_NONCE_BYTES:]), ClientInfo)


def server_info(info: ServerInfo, box: SharedBox, nonce: bytes) -> bytes:
    return encode(FrameType.SERVER_INFO, nonce + box.seal(nonce, msgspec.json.encode(info)))


def open_server_info(payload: bytes, box: SharedBox) -> ServerInfo:
    """AuthenticationError when the box does not open."""
    if len(payload) < BOX_NONCE_BYTES:
        raise DecodeError("the server info is cut short")
    return _decode_info(box.open(payload[:BOX_NONCE_BYTES], payload[BOX_NONCE_BYTES:]), ServerInfo)


def send_packet(destination: NodePublic, packet: bytes) -> bytes:
    """`packet` has at most MAX_PACKET_BYTES."""
    return packet_header(FrameType.SEND_PACKET, destination.raw, len(packet)) + packet


def packet_header(kind: FrameType, key: bytes, length: int) -> bytes:
    """Everything of a packet frame before the packet; senders of many equal packets keep it."""
    if length > MAX_PACKET_BYTES:
        raise ValueError(f"a packet has at most {MAX_PACKET_BYTES} bytes")
    return b"%c%b%b" % (kind, (KEY_BYTES + length).to_bytes(4, "big"), key)


def split_packet(payload: bytes) -> tuple[bytes, bytes]:
    """The raw key and the packet of a SendPacket or RecvPacket frame."""
    if len(payload) < KEY_BYTES:
        raise DecodeError("a packet frame is cut short")
    return payload[:KEY_BYTES], payload[KEY_BYTES:]


def note_preferred(preferred: bool) -> bytes:
    return encode(FrameType.NOTE_PREFERRED, b"\x01" if preferred else b"\x00")


def parse_note_preferred(payload: bytes) -> bool:
    if len(payload) != 1:
        raise DecodeError("a preferred note has one byte")
    return payload != b"\x00"


def peer_gone(key: bytes, reason: PeerGoneReason) -> bytes:
    return encode(FrameType.PEER_GONE, key + bytes((reason,)))


def parse_peer_gone(payload: bytes) -> tuple[NodePublic, PeerGoneReason]:
    """Old servers give no reason; reasons not known here read as disconnected."""
    if len(payload) < KEY_BYTES:
        raise DecodeError("a peer-gone frame is cut short")
    not_here = payload[KEY_BYTES : KEY_BYTES + 1] == b"\x01"
    reason = PeerGoneReason.NOT_HERE if not_here else PeerGoneReason.DISCONNECTED
    return NodePublic(payload[:KEY_BYTES]), reason


class PresenceFlag(enum.IntFlag):
    """What a relay says of a client that it announces."""

    REGULAR = 1
    RELAY = 2
    PROBER = 4
    NOT_IDEAL = 8


def peer_present(key: bytes, flags: PresenceFlag = PresenceFlag.REGULAR) -> bytes:
    """Without the client's address: no relay uses it, so none needs to know it."""
    return encode(FrameType.PEER_PRESENT, key + bytes(18) + bytes((flags,)))


def parse_peer_present(payload: bytes) -> tuple[bytes, PresenceFlag]:
    """The raw key and the flags; old servers send the key alone."""
    if len(payload) < KEY_BYTES:
        raise DecodeError("a peer-present frame is cut short")
    flags = payload[KEY_BYTES + 18] if len(payload) > KEY_BYTES + 18 else 0
    return payload[:KEY_BYTES], PresenceFlag(flags)


def forward_header(source: bytes, destination: bytes, length: int) -> bytes:
    """Everything of a ForwardPacket frame before the packet of `length` bytes."""
    size = 2 * KEY_BYTES + length
    return b"%c%b%b%b" % (FrameType.FORWARD_PACKET, size.to_bytes(4, "big"), source, destination)


def split_forward(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """The raw keys of source and destination, and the packet."""
    if len(payload) < 2 * KEY_BYTES:
        raise DecodeError("a forwarded packet is cut short")
    return payload[:KEY_BYTES], payload[KEY_BYTES : 2 * KEY_BYTES], payload[2 * KEY_BYTES :]


def close_peer(key: bytes) -> bytes:
    return encode(FrameType.CLOSE_PEER, key)


def parse_close_peer(payload: bytes) -> bytes:
    """The raw key of the client to close."""
    if len(payload) != KEY_BYTES:
        raise DecodeError("a close-peer frame has one key")
    return payload


def health(problem: str) -> bytes:
    """`problem` empty means healthy again."""
    return encode(FrameType.HEALTH, problem.encode())


def ping(data: bytes) -> bytes:
    return encode(FrameType.PING, data)


def pong(data: bytes) -> bytes:
    return encode(FrameType.PONG, data)


def parse_ping(payload: bytes) -> bytes:
    """The 8 bytes to send back (and those of a pong)."""
    if len(payload) < PING_BYTES:
        raise DecodeError("a ping is cut short")
    return payload[:PING_BYTES]


def restarting(reconnect_in_ms: int, try_for_ms: int) -> bytes:
    return encode(FrameType.RESTARTING, reconnect_in_ms.to_bytes(4, "big") + try_for_ms.to_bytes(4, "big"))


def parse_restarting(payload: bytes) -> tuple[int, int]:
    """Milliseconds to wait before reconnecting, and how long to keep trying."""
    if len(payload) < 8:
        raise DecodeError("a restarting frame is cut short")
    return int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")


_Info = TypeVar("_Info", ClientInfo, ServerInfo)

RECV_PACKET_BYTE: Final = bytes((FrameType.RECV_PACKET,))
FORWARD_PACKET_BYTE: Final = bytes((FrameType.FORWARD_PACKET,))
KEEP_ALIVE: Final = encode(FrameType.KEEP_ALIVE)
WATCH_CONNS: Final = encode(FrameType.WATCH_CONNS)


def _decode_info(data: bytes, kind: type[_Info]) -> _Info:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DecodeError(f"the {kind.__name__} is not the JSON expected") from error
