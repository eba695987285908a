"""DERP frames: bytes, pieces, limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire.crypto import SharedBox
from warren_wire.derp import frames
from warren_wire.derp.frames import FrameReader, FrameType, PeerGoneReason
from warren_wire.errors import AuthenticationError, DecodeError
from warren_wire.keys import NodePrivate, NodePublic

CLIENT = NodePrivate.from_seed(b"\x11" * 32)
SERVER = NodePrivate.from_seed(b"\x22" * 32)
PEER = NodePublic(bytes(range(32)))
PEER_HEX = bytes(range(32)).hex()
NONCE = bytes(24)
FROM_CLIENT = SharedBox(CLIENT.raw, SERVER.public.raw)
AT_SERVER = SharedBox(SERVER.raw, CLIENT.public.raw)

TABLE = [
    ("server key", frames.server_key(PEER), "010000002844455250f09f9491" + PEER_HEX),
    ("send packet", frames.send_packet(PEER, b"ab"), "0400000022" + PEER_HEX + "6162"),
    ("keep alive", frames.KEEP_ALIVE, "0600000000"),
    ("home", frames.note_preferred(True), "070000000101"),
    ("not home", frames.note_preferred(False), "070000000100"),
    ("peer gone", frames.peer_gone(PEER.raw, PeerGoneReason.NOT_HERE), "0800000021" + PEER_HEX + "01"),
    ("ping", frames.ping(b"12345678"), "12000000083132333435363738"),
    ("pong", frames.pong(b"12345678"), "13000000083132333435363738"),
    ("restarting", frames.restarting(1000, 60_000), "1500000008000003e80000ea60"),
]


@pytest.mark.parametrize(("name", "data", "text"), TABLE, ids=[row[0] for row in TABLE])
def test_frames_have_their_bytes(name: str, data: bytes, text: str) -> None:
    assert data.hex() == text


PARSERS: list[tuple[Callable[[bytes], object], bytes, object]] = [
    (frames.parse_server_key, frames.server_key(PEER), PEER),
    (frames.split_packet, frames.send_packet(PEER, b""), (PEER.raw, b"")),
    (frames.parse_note_preferred, frames.note_preferred(True), True),
    (
        frames.parse_peer_gone,
        frames.peer_gone(PEER.raw, PeerGoneReason.DISCONNECTED)[:-1],
        (PEER, PeerGoneReason.DISCONNECTED),
    ),
    (frames.parse_ping, frames.ping(b"12345678"), b"12345678"),
    (frames.parse_restarting, frames.restarting(1, 2), (1, 2)),
]


@pytest.mark.parametrize(("parse", "data", "value"), PARSERS)
def test_payloads_are_read_and_refused_when_cut_short(
    parse: Callable[[bytes], object], data: bytes, value: object
) -> None:
    payload = data[5:]
    assert parse(payload) == value
    for length in range(len(payload)):
        with pytest.raises(DecodeError):
            parse(payload[:length])


@pytest.mark.parametrize(
    ("parse", "data", "value"), [row for row in PARSERS if row[0] not in (frames.parse_note_preferred,)]
)
def test_bytes_after_a_payload_are_ignored(
    parse: Callable[[bytes], object], data: bytes, value: object
) -> None:
    if parse is frames.split_packet:
        assert parse(data[5:] + b"packet") == (PEER.raw, b"packet")
    else:
        assert parse(data[5:] + b"\x00grown") == value


def test_infos_open_only_for_whom_they_were_sealed() -> None:
    info = frames.ClientInfo(2, can_ack_pings=True, app_name="warren")
    payload = frames.client_info(info, CLIENT.public, FROM_CLIENT, NONCE)[5:]
    key, sealed = frames.split_client_info(payload)
    assert key == CLIENT.public
    assert frames.open_client_info(sealed, AT_SERVER) == info
    with pytest.raises(AuthenticationError):
        frames.open_client_info(sealed, SharedBox(SERVER.raw, PEER.raw))
    answer = frames.server_info(frames.ServerInfo(2), AT_SERVER, NONCE)[5:]
    assert frames.open_server_info(answer, FROM_CLIENT) == frames.ServerInfo(2)
    for length in range(len(answer)):
        with pytest.raises((DecodeError, AuthenticationError)):
            frames.open_server_info(answer[:length], FROM_CLIENT)
    for length in range(len(payload)):
        with pytest.raises((DecodeError, AuthenticationError)):
            frames.open_client_info(frames.split_client_info(payload[:length])[1], AT_SERVER)


def test_infos_are_the_json_that_stock_sends() -> None:
    def info(text: bytes) -> frames.ClientInfo:
        return frames.open_client_info(NONCE + FROM_CLIENT.seal(NONCE, text), AT_SERVER)

    assert info(b'{"version":2,"CanAckPings":true,"Unknown":[1]}') == frames.ClientInfo(2, can_ack_pings=True)
    for text in (b"", b"[]", b'{"version":"2"}', b"{" * 10_000, b'{"x":' + b"[" * 100_000, b"\xff"):
        with pytest.raises(DecodeError):
            info(text)


SOME = frames.server_key(PEER) + frames.KEEP_ALIVE + frames.encode(FrameType.HEALTH, b"x" * 3000)
CUT = [
    (FrameType.SERVER_KEY, frames.MAGIC + PEER.raw),
    (FrameType.KEEP_ALIVE, b""),
    (FrameType.HEALTH, b"x" * 3000),
]


def test_a_stream_is_cut_into_frames_whatever_its_pieces() -> None:
    for size in (1, 2, 5, 7, 1000, len(SOME)):
        reader = FrameReader()
        found = []
        for start in range(0, len(SOME), size):
            found += reader.feed(SOME[start : start + size])
        assert found == CUT


LIMITS = [
    (FrameType.SEND_PACKET, 32 + 65536),
    (FrameType.CLIENT_INFO, 32 + 256 * 1024),
    (FrameType.NOTE_PREFERRED, 1),
    (FrameType.PING, 1000),
    (0xEE, 1 << 20),
]


@pytest.mark.parametrize(("kind", "limit"), LIMITS)
def test_a_frame_over_its_limit_ends_the_stream(kind: int, limit: int) -> None:
    head = bytes((kind,))
    reader = FrameReader()
    allowed = frames.KEEP_ALIVE + head + limit.to_bytes(4, "big") + bytes(limit)
    assert len(reader.feed(allowed)) == 2
    reader.check()
    assert reader.feed(frames.KEEP_ALIVE + head + (limit + 1).to_bytes(4, "big")) == [(6, b"")]
    with pytest.raises(DecodeError):
        reader.check()
    assert reader.feed(frames.KEEP_ALIVE) == []


@given(st.lists(st.tuples(st.integers(0x80, 0xFF), st.binary(max_size=300)), max_size=20), st.data())
def test_what_is_written_is_read(wanted: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(bytes((kind,)) + len(load).to_bytes(4, "big") + load for kind, load in wanted)
    reader = FrameReader()
    found: list[frames.Frame] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        stream = stream[size:]
    reader.check()
    assert found == wanted


def test_packets_over_the_limit_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError):
        frames.send_packet(PEER, bytes(65537))
