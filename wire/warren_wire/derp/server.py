"""One client's connection at a relay, after the HTTP upgrade. No I/O and no clock.

    state      leaves on            to
    HELLO      ClientInfo           ADMISSION   (ClientIntroduced; the shell decides)
    ADMISSION  accept()             OPEN        (ServerInfo is sent)
    any        broken rule          FAILED      (RemoteProtocolError)

Where packets go is the router's business.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from warren_wire.crypto import SharedBox
from warren_wire.errors import AuthenticationError, DecodeError, LocalProtocolError, RemoteProtocolError
from warren_wire.keys import NodePrivate, NodePublic

from . import frames
from .frames import FrameType

_SEND_PACKET: Final = int(FrameType.SEND_PACKET)
MAX_EARLY_BYTES: Final = 1 << 20
"""What a client may send before it is admitted. Stock sends packets without waiting for ServerInfo."""


@dataclass(frozen=True, slots=True)
class ClientIntroduced:
    """The client proved that it owns this key; answer with `accept` or close."""

    key: NodePublic
    info: frames.ClientInfo


class PacketsSent(NamedTuple):
    """The client wants packets forwarded: each is the raw key of its destination and the packet after it.

    One event for all that came in a row, and no object per packet: this is the relay's fast path.
    """

    payloads: list[bytes]


@dataclass(frozen=True, slots=True)
class PreferredNoted:
    """Whether the client has this relay as its home."""

    preferred: bool


class PacketForwarded(NamedTuple):
    """Another relay of the region passes on a packet for a client of ours."""

    source: bytes
    destination: bytes
    packet: bytes


@dataclass(frozen=True, slots=True)
class WatchRequested:
    """The other relay wants to hear which clients are here."""


@dataclass(frozen=True, slots=True)
class CloseRequested:
    """The other relay wants a client closed; the key is raw."""

    key: bytes


ServerEvent = (
    ClientIntroduced | PacketsSent | PreferredNoted | PacketForwarded | WatchRequested | CloseRequested
)


_NO_EVENTS: Final[Sequence[ServerEvent]] = ()


class _State(enum.Enum):
    HELLO = enum.auto()
    ADMISSION = enum.auto()
    OPEN = enum.auto()
    FAILED = enum.auto()


class DerpServerConnection:
    """Begins by sending the server's key. `nonce` is 24 random bytes for the one box it seals.

    Whether a client is a relay of the region is for the shell to say, from the mesh key in its info.
    """

    __slots__ = (
        "_box",
        "_events",
        "_held",
        "_held_bytes",
        "_is_relay",
        "_nonce",
        "_outgoing",
        "_pong_due",
        "_reader",
        "_server",
        "_state",
        "pings",
        "unknown_frames",
    )

    def __init__(self, server: NodePrivate, nonce: bytes) -> None:
        self._server = server
        self._nonce = nonce
        self._state = _State.HELLO
        self._reader = frames.FrameReader()
        self._held: list[frames.Frame] | None = None
        self._held_bytes = 0
        self._outgoing: list[bytes] = [frames.server_key(server.public)]
        self._pong_due = False
        self._is_relay = False
        self.pings = 0
        self._events: list[ServerEvent] = []
        self._box: SharedBox | None = None
        self.unknown_frames = 0

    @property
    def is_open(self) -> bool:
        return self._state is _State.OPEN

    def receive_data(self, data: bytes) -> None:
        """Bytes from the client. After RemoteProtocolError the connection is dead."""
        if self._state is _State.FAILED:
            raise LocalProtocolError("the connection has failed")
        self._receive(self._reader.feed(data))

    def data_to_send(self) -> bytes:
        """What is due; a second call returns nothing."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        self._pong_due = False
        return data

    def events(self) -> Sequence[ServerEvent]:
        """What happened since the last call, in order."""
        events = self._events
        if not events:
            return _NO_EVENTS
        self._events = []
        return events

    def accept(self, *, as_relay: bool = False) -> None:
        """Let the client in; what it sent meanwhile is read now (RemoteProtocolError).

        Only relays may watch connections, forward packets and close clients.
        """
        if self._state is not _State.ADMISSION:
            raise LocalProtocolError("nobody waits for admission")
        assert self._box is not None
        self._outgoing.append(
            frames.server_info(frames.ServerInfo(frames.PROTOCOL_VERSION), self._box, self._nonce)
        )
        self._state = _State.OPEN
        # Most clients idle for days: what only the handshake needs does not live as long.
        self._box = None
        self._nonce = b""
        self._is_relay = as_relay
        held, self._held = self._held, None
        self._receive(held or ())

    def _receive(self, received: Iterable[frames.Frame]) -> None:
        run: list[bytes] | None = None
        is_open = self._state is _State.OPEN
        try:
            for kind, payload in received:
                if is_open:
                    if kind != _SEND_PACKET:
                        run = None
                        self._receive_open(kind, payload)
                    elif len(payload) < frames.KEY_BYTES:
                        raise DecodeError("a packet frame is cut short")
                    elif run is None:
                        run = [payload]
                        self._events.append(PacketsSent(run))
                    else:
                        run.append(payload)
                elif self._state is _State.HELLO:
                    self._receive_hello(kind, payload)
                else:
                    self._hold(kind, payload)
            self._reader.check()
        except AuthenticationError:
            self._state = _State.FAILED
            raise
        except DecodeError as error:
            self._state = _State.FAILED
            raise RemoteProtocolError(str(error)) from error

    def _receive_hello(self, kind: int, payload: bytes) -> None:
        if kind != FrameType.CLIENT_INFO:
            raise DecodeError("the client did not begin with its info")
        key, sealed = frames.split_client_info(payload)
        self._box = SharedBox(self._server.raw, key.raw)
        info = frames.open_client_info(sealed, self._box)
        self._state = _State.ADMISSION
        self._events.append(ClientIntroduced(key, info))

    def _hold(self, kind: int, payload: bytes) -> None:
        self._held_bytes += frames.HEADER_BYTES + len(payload)
        if self._held_bytes > MAX_EARLY_BYTES:
            raise DecodeError("too much was sent before admission")
        if self._held is None:
            self._held = []
        self._held.append((kind, payload))

    def _receive_open(self, kind: int, payload: bytes) -> None:
        match kind:
            case FrameType.NOTE_PREFERRED:
                self._events.append(PreferredNoted(frames.parse_note_preferred(payload)))
            case FrameType.PING:
                self._answer_ping(frames.parse_ping(payload))
            case FrameType.PONG:
                pass
            case FrameType.FORWARD_PACKET | FrameType.WATCH_CONNS | FrameType.CLOSE_PEER:
                self._receive_from_relay(kind, payload)
            case _:
                self.unknown_frames += 1

    def _receive_from_relay(self, kind: int, payload: bytes) -> None:
        if not self._is_relay:
            raise DecodeError("only relays of the same region may ask that")
        if kind == FrameType.FORWARD_PACKET:
            self._events.append(PacketForwarded(*frames.split_forward(payload)))
        elif kind == FrameType.WATCH_CONNS:
            self._events.append(WatchRequested())
        else:
            self._events.append(CloseRequested(frames.parse_close_peer(payload)))

    def _answer_ping(self, data: bytes) -> None:
        self.pings += 1
        # One pong at a time, as stock: a client that pings without reading must not fill our memory.
        if not self._pong_due:
            self._pong_due = True
            self._outgoing.append(frames.pong(data))
