"""One connection of a node to a relay: HTTP upgrade, handshake, packets. No I/O and no clock.

state        leaves on          to
HEAD         101 answer         SERVER_KEY
SERVER_KEY   ServerKey          SERVER_INFO   (ClientInfo is sent)
SERVER_INFO  ServerInfo         OPEN          (Ready)
any          broken rule        FAILED        (RemoteProtocolError)
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from warren_wire.crypto import SharedBox
from warren_wire.errors import AuthenticationError, DecodeError, LocalProtocolError, RemoteProtocolError
from warren_wire.keys import NodePrivate, NodePublic

from . import frames
from .frames import FrameType, PeerGoneReason

MAX_HEAD_BYTES: Final = 16 * 1024
_KNOWN_SOURCES: Final = 4096
"""Parsed source keys that are kept; beyond it the cache starts anew."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The relay has taken us in; packets flow."""

    server: NodePublic
    info: frames.ServerInfo


class PacketReceived(NamedTuple):
    """A packet from a peer. (A named tuple: one is made for every packet.)"""

    source: NodePublic
    packet: bytes


@dataclass(frozen=True, slots=True)
class PeerGone:
    """The relay has no way to this peer."""

    peer: NodePublic
    reason: PeerGoneReason


@dataclass(frozen=True, slots=True)
class PeerPresent:
    """A client of a relay that we watch; the key is raw."""

    peer: bytes
    flags: frames.PresenceFlag


@dataclass(frozen=True, slots=True)
class KeepAliveReceived:
    """The relay is alive."""


@dataclass(frozen=True, slots=True)
class PongReceived:
    data: bytes


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """The relay has a problem with this connection; empty when it is over."""

    problem: str


@dataclass(frozen=True, slots=True)
class Restarting:
    """The relay is about to stop: reconnect after the first time, keep trying for the second."""

    reconnect_seconds: float
    try_seconds: float


ClientEvent = (
    Ready
    | PacketReceived
    | PeerGone
    | PeerPresent
    | KeepAliveReceived
    | PongReceived
    | HealthChanged
    | Restarting
)


class _State(enum.Enum):
    HEAD = enum.auto()
    SERVER_KEY = enum.auto()
    SERVER_INFO = enum.auto()
    OPEN = enum.auto()
    FAILED = enum.auto()


class DerpClient:
    """Feed it what the TLS connection receives, send what it has to send, take its events."""

    def __init__(
        self,
        node: NodePrivate,
        nonce_source: Callable[[], bytes],
        *,
        app_name: str = "warren",
        mesh_key: str = "",
    ) -> None:
        self._node = node
        self._nonce = nonce_source
        self._app_name = app_name
        self._mesh_key = mesh_key
        self._state = _State.HEAD
        self._head = bytearray()
        self._reader = frames.FrameReader()
        self._outgoing: list[bytes] = []
        self._events: list[ClientEvent] = []
        self._sources: dict[bytes, NodePublic] = {}
        self._server: NodePublic | None = None
        self._box: SharedBox | None = None
        self.unknown_frames = 0

    @property
    def is_ready(self) -> bool:
        return self._state is _State.OPEN

    def upgrade_request(self, host: str) -> bytes:
        """The bytes to send first; `host` is the name in the URL, with the port unless it is 443."""
        if not host.isascii() or not host.isprintable() or " " in host:
            raise LocalProtocolError("not a host name")
        return f"GET /derp HTTP/1.1\r\nHost: {host}\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n".encode()

    def receive_data(self, data: bytes) -> None:
        """Bytes from the relay. After RemoteProtocolError the connection is dead."""
        if self._state is _State.FAILED:
            raise LocalProtocolError("the connection has failed")
        try:
            if self._state is _State.HEAD:
                data = self._receive_head(data)
            for kind, payload in self._reader.feed(data):
                self._receive_frame(kind, payload)
            self._reader.check()
        except AuthenticationError:
            self._state = _State.FAILED
            raise
        except DecodeError as error:
            self._state = _State.FAILED
            raise RemoteProtocolError(str(error)) from error

    def data_to_send(self) -> bytes:
        """What is due; a second call returns nothing."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def events(self) -> list[ClientEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def send_packet(self, destination: NodePublic, packet: bytes) -> None:
        self._require_open()
        if len(packet) > frames.MAX_PACKET_BYTES:
            raise LocalProtocolError("the packet is too long")
        self._outgoing.append(frames.send_packet(destination, packet))

    def note_preferred(self, preferred: bool) -> None:
        """Tell the relay whether it is our home."""
        self._require_open()
        self._outgoing.append(frames.note_preferred(preferred))

    def send_ping(self, data: bytes) -> None:
        """Ask for a PongReceived with the same 8 bytes."""
        self._require_open()
        if len(data) != frames.PING_BYTES:
            raise LocalProtocolError(f"a ping has {frames.PING_BYTES} bytes")
        self._outgoing.append(frames.ping(data))

    def watch_connections(self) -> None:
        """As a relay of the region: hear of every client there (PeerPresent, PeerGone)."""
        self._require_open()
        self._outgoing.append(frames.WATCH_CONNS)

    def close_peer(self, peer: NodePublic) -> None:
        """As a relay of the region: have a client there closed."""
        self._require_open()
        self._outgoing.append(frames.close_peer(peer.raw))

    def _require_open(self) -> None:
        if self._state is not _State.OPEN:
            raise LocalProtocolError("the relay has not taken us in")

    def _receive_head(self, data: bytes) -> bytes:
        """Collect the HTTP answer; the bytes after it are frames."""
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > MAX_HEAD_BYTES:
                raise DecodeError("the answer to the upgrade has no end")
            return b""
        status = bytes(self._head[: min(end, 64)]).split(b"\r\n")[0].split(b" ")
        if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or status[1] != b"101":
            code = status[1].decode("ascii", "replace") if len(status) > 1 else "no status"
            raise DecodeError(f"the relay refused the upgrade: {code}")
        rest = bytes(self._head[end + 4 :])
        self._head.clear()
        self._state = _State.SERVER_KEY
        return rest

    def _receive_frame(self, kind: int, payload: bytes) -> None:
        if self._state is _State.OPEN:
            self._receive_open(kind, payload)
        elif self._state is _State.SERVER_KEY:
            if kind != FrameType.SERVER_KEY:
                raise DecodeError("the relay did not begin with its key")
            self._introduce(frames.parse_server_key(payload))
        elif kind == FrameType.SERVER_INFO:
            assert self._box is not None
            assert self._server is not None
            info = frames.open_server_info(payload, self._box)
            self._state = _State.OPEN
            self._events.append(Ready(self._server, info))
        else:
            self._receive_open(kind, payload)

    def _introduce(self, server: NodePublic) -> None:
        self._server = server
        self._box = SharedBox(self._node.raw, server.raw)
        info = frames.ClientInfo(
            frames.PROTOCOL_VERSION, self._mesh_key, can_ack_pings=True, app_name=self._app_name
        )
        self._outgoing.append(frames.client_info(info, self._node.public, self._box, self._nonce()))
        self._state = _State.SERVER_INFO

    def _receive_open(self, kind: int, payload: bytes) -> None:
        match kind:
            case FrameType.RECV_PACKET:
                source, packet = frames.split_packet(payload)
                self._events.append(PacketReceived(self._source(source), packet))
            case FrameType.KEEP_ALIVE:
                self._events.append(KeepAliveReceived())
            case FrameType.PEER_GONE:
                self._events.append(PeerGone(*frames.parse_peer_gone(payload)))
            case FrameType.PEER_PRESENT:
                self._events.append(PeerPresent(*frames.parse_peer_present(payload)))
            case FrameType.PING:
                self._answer_ping(frames.parse_ping(payload))
            case FrameType.PONG:
                self._events.append(PongReceived(frames.parse_ping(payload)))
            case FrameType.HEALTH:
                self._events.append(HealthChanged(payload[:1024].decode("utf-8", "replace")))
            case FrameType.RESTARTING:
                reconnect, try_for = frames.parse_restarting(payload)
                self._events.append(Restarting(reconnect / 1000, try_for / 1000))
            case _:
                self.unknown_frames += 1

    def _answer_ping(self, data: bytes) -> None:
        # One answer is enough to show life; a flood of pings must not fill our buffer.
        if len(self._outgoing) < 64:
            self._outgoing.append(frames.pong(data))

    def _source(self, raw: bytes) -> NodePublic:
        key = self._sources.get(raw)
        if key is None:
            if len(self._sources) >= _KNOWN_SOURCES:
                self._sources.clear()
            key = self._sources[raw] = NodePublic(raw)
        return key
