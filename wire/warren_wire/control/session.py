"""Both ends of one control connection: Noise handshake, records, early payload, HTTP/2.

                     client                                         server
    UPGRADING        sent POST /ts2021 with the initiation          (the listener's business)
    HANDSHAKING      has the 101, waits for the Noise response      (done by the constructor)
    GREETING         sent its preface, waits for nine bytes         -
    OPEN             requests and responses                         requests and responses
    DEAD             an error was raised; input is ignored          the same

What a caller passes in is bytes as they came; what it takes out is bytes to write and events. Limits on
bodies and times are the caller's.
"""

from base64 import b64encode
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from warren_wire.control.early import MIN_VERSION, EarlyPayloadReader, encode_early_payload
from warren_wire.control.events import (
    Connected,
    DataReceived,
    Disconnected,
    Headers,
    PongReceived,
    RequestStarted,
    ResponseStarted,
    SessionEvent,
    StreamEnded,
    StreamReset,
)
from warren_wire.control.http2 import Http2Channel
from warren_wire.control.records import RecordReader, RecordWriter
from warren_wire.errors import DecodeError, LocalProtocolError, RemoteProtocolError
from warren_wire.keys import ChallengePublic, MachinePrivate, MachinePublic
from warren_wire.noise import (
    HEADER_BYTES,
    RESPONSE_BYTES,
    TYPE_ERROR,
    Initiator,
    accept,
    error_message,
)

__all__ = [
    "HANDSHAKE_HEADER",
    "UPGRADE",
    "ClientSession",
    "Connected",
    "DataReceived",
    "Disconnected",
    "Headers",
    "PongReceived",
    "RequestStarted",
    "ResponseStarted",
    "ServerSession",
    "SessionEvent",
    "StreamEnded",
    "StreamReset",
    "noise_error",
    "upgrade_response",
]

PATH: Final = "/ts2021"
UPGRADE: Final = "tailscale-control-protocol"
HANDSHAKE_HEADER: Final = "X-Tailscale-Handshake"

_MAX_HEAD_BYTES: Final = 16 * 1024
_MAX_ERROR_TEXT: Final = 200


def upgrade_response() -> bytes:
    """What the listener writes before `ServerSession.data_to_send`."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: " + UPGRADE.encode() + b"\r\n"
        b"Connection: upgrade\r\n\r\n"
    )


def noise_error(text: str) -> bytes:
    """What the listener writes after `upgrade_response` when it turns a client away."""
    return error_message(text)


class _State(Enum):
    UPGRADING = auto()
    HANDSHAKING = auto()
    GREETING = auto()
    OPEN = auto()
    DEAD = auto()


class ClientSession:
    """The initiator. `host` is the server's host, with its port where it is not the usual one."""

    def __init__(
        self,
        *,
        machine: MachinePrivate,
        server: MachinePublic,
        ephemeral_seed: bytes,
        version: int,
        host: str,
    ) -> None:
        self._host = host
        self._handshake = Initiator(
            machine=machine, server=server, ephemeral_seed=ephemeral_seed, version=version
        )
        self._state = _State.UPGRADING
        self._out = bytearray(self._upgrade_request())
        self._in = bytearray()
        self._early = EarlyPayloadReader()
        self._http = Http2Channel(client_side=True)
        self._reader: RecordReader | None = None
        self._writer: RecordWriter | None = None
        self._events: list[SessionEvent] = []

    def receive_data(self, data: bytes) -> None:
        """Raises RemoteProtocolError when the server broke the rules; the connection is dead then."""
        try:
            self._receive(data)
        except DecodeError as error:
            self._state = _State.DEAD
            raise RemoteProtocolError(str(error)) from error
        except RemoteProtocolError:
            self._state = _State.DEAD
            raise

    def data_to_send(self) -> bytes:
        if self._writer is not None:
            self._out += self._writer.seal(self._http.data_to_send())
        data = bytes(self._out)
        self._out.clear()
        return data

    def events(self) -> list[SessionEvent]:
        events = self._events + self._http.events()
        self._events = []
        return events

    def send_request(
        self, method: str, path: str, body: bytes, headers: Sequence[tuple[str, str]] = ()
    ) -> int:
        """Queues a request and returns its stream; allowed once `Connected` was reported."""
        self._require_open()
        return self._http.send_request(method, path, self._host, body, headers)

    def reset_stream(self, stream_id: int) -> None:
        """Gives a request up, as the end of a map poll."""
        self._http.reset_stream(stream_id)

    def buffered_bytes(self, stream_id: int) -> int:
        return self._http.buffered_bytes(stream_id)

    def ping(self) -> None:
        self._require_open()
        self._http.ping()

    def close(self) -> None:
        self._http.close()

    def _receive(self, data: bytes) -> None:
        if self._state is _State.DEAD:
            return
        if self._state in (_State.UPGRADING, _State.HANDSHAKING):
            self._in += data
            if self._state is _State.UPGRADING:
                self._read_head()
            if self._state is _State.HANDSHAKING:
                self._read_response()
            if self._reader is None:
                return
            data = bytes(self._in)
            self._in.clear()
        if self._reader is not None:
            self._read_stream(self._reader.feed(data))

    def _read_head(self) -> None:
        end = self._in.find(b"\r\n\r\n")
        if end < 0:
            if len(self._in) > _MAX_HEAD_BYTES:
                raise RemoteProtocolError("the head of the upgrade response is too long")
            return
        _check_upgrade(bytes(self._in[:end]))
        del self._in[: end + 4]
        self._state = _State.HANDSHAKING

    def _read_response(self) -> None:
        if len(self._in) < HEADER_BYTES:
            return
        length = HEADER_BYTES + int.from_bytes(self._in[1:HEADER_BYTES], "big")
        if self._in[0] == TYPE_ERROR:
            if len(self._in) >= length:
                text = bytes(self._in[HEADER_BYTES:length]).decode(errors="replace")
                shown = "".join(character for character in text if character.isprintable())
                raise RemoteProtocolError(f"the server refused the handshake: {shown[:_MAX_ERROR_TEXT]}")
            return
        if length != RESPONSE_BYTES:
            raise RemoteProtocolError("not a handshake response")
        if len(self._in) < RESPONSE_BYTES:
            return
        keys = self._handshake.read_response(bytes(self._in[:RESPONSE_BYTES]))
        del self._in[:RESPONSE_BYTES]
        self._reader = RecordReader(keys.receive_key)
        self._writer = RecordWriter(keys.send_key)
        self._state = _State.GREETING

    def _read_stream(self, plaintext: bytes) -> None:
        if self._state is _State.GREETING:
            plaintext = self._early.feed(plaintext)
            if not self._early.done:
                return
            self._state = _State.OPEN
            self._events.append(Connected(self._early.challenge))
        self._http.receive_data(plaintext)

    def _require_open(self) -> None:
        if self._state is not _State.OPEN:
            raise LocalProtocolError("the session is not connected")

    def _upgrade_request(self) -> bytes:
        handshake = b64encode(self._handshake.message).decode()
        return (
            f"POST {PATH} HTTP/1.1\r\n"
            f"Host: {self._host}\r\n"
            f"Connection: upgrade\r\n"
            f"Upgrade: {UPGRADE}\r\n"
            f"{HANDSHAKE_HEADER}: {handshake}\r\n"
            "Content-Length: 0\r\n\r\n"
        ).encode()


def _check_upgrade(head: bytes) -> None:
    status_line, *lines = head.decode("latin-1").split("\r\n")
    parts = status_line.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1."):
        raise RemoteProtocolError("not an HTTP/1.1 response")
    if parts[1] != "101":
        status = parts[1] if parts[1].isalnum() else "?"
        raise RemoteProtocolError(f"the server answered the upgrade with status {status[:10]}")
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "upgrade" and value.strip().lower() == UPGRADE:
            return
    raise RemoteProtocolError("the server upgraded to something else")


class ServerSession:
    """The responder. The constructor raises RemoteProtocolError for an initiation that does not verify.

    `machine` proves possession of a machine key and nothing else: every request has to be authorised by it.
    """

    def __init__(
        self,
        *,
        server: MachinePrivate,
        initiation: bytes,
        ephemeral_seed: bytes,
        challenge: ChallengePublic | None,
    ) -> None:
        try:
            accepted = accept(server=server, initiation=initiation, ephemeral_seed=ephemeral_seed)
        except DecodeError as error:
            raise RemoteProtocolError(str(error)) from error
        self.machine: MachinePublic = accepted.machine
        self.version: int = accepted.version
        self._reader = RecordReader(accepted.established.receive_key)
        self._writer = RecordWriter(accepted.established.send_key)
        self._out = bytearray(accepted.message)
        if challenge is not None and accepted.version >= MIN_VERSION:
            self._out += self._writer.seal(encode_early_payload(challenge))
        self._http = Http2Channel(client_side=False)
        self._dead = False

    def receive_data(self, data: bytes) -> None:
        """Raises RemoteProtocolError when the client broke the rules; the connection is dead then."""
        if self._dead:
            return
        try:
            self._http.receive_data(self._reader.feed(data))
        except RemoteProtocolError:
            self._dead = True
            raise

    def data_to_send(self) -> bytes:
        self._out += self._writer.seal(self._http.data_to_send())
        data = bytes(self._out)
        self._out.clear()
        return data

    def events(self) -> list[SessionEvent]:
        return self._http.events()

    def send_response(
        self,
        stream_id: int,
        status: int,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        end: bool = True,
    ) -> None:
        """Queues the head of a response and its body, if any. A stream that was reset takes it silently."""
        self._http.send_response(stream_id, status, headers, body, end=end)

    def send_data(self, stream_id: int, data: bytes, end: bool = False) -> None:
        """Queues more of a response that was sent with `end` False."""
        self._http.send_data(stream_id, data, end=end)

    def buffered_bytes(self, stream_id: int) -> int:
        """What the client's flow control holds back of a stream, to bound it."""
        return self._http.buffered_bytes(stream_id)

    def reset_stream(self, stream_id: int) -> None:
        self._http.reset_stream(stream_id)

    def ping(self) -> None:
        """Asks for a `PongReceived`; every HTTP/2 client answers by itself."""
        self._http.ping()

    def close(self) -> None:
        """Says goodbye; write `data_to_send` once more before closing the transport."""
        self._http.close()
