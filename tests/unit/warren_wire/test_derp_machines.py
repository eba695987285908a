"""The client's and the server's side of one DERP connection, back to back and fed with nonsense."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire.crypto import SharedBox
from warren_wire.derp import client as client_side
from warren_wire.derp import frames
from warren_wire.derp.client import (
    DerpClient,
    PacketReceived,
    PeerGone,
    PeerPresent,
    PongReceived,
    Ready,
)
from warren_wire.derp.frames import FrameType, PeerGoneReason
from warren_wire.derp.server import (
    ClientIntroduced,
    CloseRequested,
    DerpServerConnection,
    PacketForwarded,
    PacketsSent,
    PreferredNoted,
    WatchRequested,
)
from warren_wire.errors import AuthenticationError, LocalProtocolError, RemoteProtocolError
from warren_wire.keys import NodePrivate, NodePublic

NODE = NodePrivate.from_seed(b"\x11" * 32)
SERVER = NodePrivate.from_seed(b"\x22" * 32)
PEER = NodePublic(b"\x33" * 32)
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"


def new_client() -> DerpClient:
    return DerpClient(NODE, lambda: bytes(24))


def new_server() -> DerpServerConnection:
    return DerpServerConnection(SERVER, b"\x01" * 24)


def connected() -> tuple[DerpClient, DerpServerConnection]:
    client, server = new_client(), new_server()
    client.receive_data(HEAD + server.data_to_send())
    server.receive_data(client.data_to_send())
    server.accept()
    client.receive_data(server.data_to_send())
    assert client.events() == [Ready(SERVER.public, frames.ServerInfo(2))]
    assert [type(event) for event in server.events()] == [ClientIntroduced]
    return client, server


def test_the_request_is_the_upgrade_that_relays_expect() -> None:
    assert new_client().upgrade_request("relay.example.net") == (
        b"GET /derp HTTP/1.1\r\nHost: relay.example.net\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"
    )
    with pytest.raises(LocalProtocolError):
        new_client().upgrade_request("relay\r\nX: y")


def test_a_handshake_introduces_both_sides() -> None:
    client, server = new_client(), new_server()
    client.receive_data(HEAD)
    client.receive_data(server.data_to_send())
    assert not client.is_ready
    server.receive_data(client.data_to_send())
    (introduced,) = server.events()
    assert isinstance(introduced, ClientIntroduced)
    assert introduced.key == NODE.public
    assert introduced.info == frames.ClientInfo(2, can_ack_pings=True, app_name="warren")
    assert server.data_to_send() == b""
    server.accept()
    assert server.is_open
    client.receive_data(server.data_to_send())
    assert client.is_ready


def test_a_handshake_works_byte_by_byte() -> None:
    client, server = new_client(), new_server()
    for byte in HEAD + server.data_to_send():
        client.receive_data(bytes((byte,)))
    for byte in client.data_to_send():
        server.receive_data(bytes((byte,)))
    server.accept()
    for byte in server.data_to_send():
        client.receive_data(bytes((byte,)))
    assert client.is_ready


def test_packets_and_notes_arrive_in_order() -> None:
    client, server = connected()
    client.send_packet(PEER, b"one")
    client.note_preferred(True)
    client.send_packet(NODE.public, bytes(65536))
    server.receive_data(client.data_to_send())
    assert server.events() == [
        PacketsSent([PEER.raw + b"one"]),
        PreferredNoted(True),
        PacketsSent([NODE.public.raw + bytes(65536)]),
    ]
    assert client.data_to_send() == b""
    packet = frames.packet_header(FrameType.RECV_PACKET, PEER.raw, 3) + b"two"
    client.receive_data(packet + frames.peer_gone(PEER.raw, PeerGoneReason.NOT_HERE))
    assert client.events() == [PacketReceived(PEER, b"two"), PeerGone(PEER, PeerGoneReason.NOT_HERE)]


def test_what_is_sent_before_admission_is_read_after_it() -> None:
    client, server = new_client(), new_server()
    client.receive_data(HEAD + server.data_to_send())
    early = frames.note_preferred(True) + frames.send_packet(PEER, b"early")
    server.receive_data(client.data_to_send() + early)
    assert [type(event) for event in server.events()] == [ClientIntroduced]
    server.accept()
    assert server.events() == [PreferredNoted(True), PacketsSent([PEER.raw + b"early"])]


def test_too_much_before_admission_is_refused() -> None:
    client, server = new_client(), new_server()
    client.receive_data(HEAD + server.data_to_send())
    server.receive_data(client.data_to_send())
    with pytest.raises(RemoteProtocolError):
        for _ in range(20):
            server.receive_data(frames.send_packet(PEER, bytes(65536)))


def test_pings_are_answered_by_both_sides_one_at_a_time() -> None:
    client, server = connected()
    client.send_ping(b"12345678")
    server.receive_data(client.data_to_send() + frames.ping(b"87654321") * 100)
    client.receive_data(server.data_to_send())
    assert client.events() == [PongReceived(b"12345678")]
    server.receive_data(frames.ping(b"87654321"))
    assert server.data_to_send() == frames.pong(b"87654321")
    client.receive_data(frames.ping(b"abcdefgh"))
    assert client.data_to_send() == frames.pong(b"abcdefgh")
    client.receive_data(frames.ping(b"abcdefgh") * 10_000)
    assert len(client.data_to_send()) < 2000


def test_a_client_reports_what_the_relay_says_about_itself() -> None:
    client, _ = connected()
    client.receive_data(
        frames.KEEP_ALIVE
        + frames.encode(FrameType.HEALTH, b"duplicate \xff client")
        + frames.restarting(500, 3000)
    )
    assert client.events() == [
        client_side.KeepAliveReceived(),
        client_side.HealthChanged("duplicate \ufffd client"),
        client_side.Restarting(0.5, 3.0),
    ]


def test_unknown_frames_are_skipped_and_counted() -> None:
    client, server = connected()
    for machine in (client, server):
        machine.receive_data(b"\xee\x00\x00\x00\x03abc" + frames.pong(bytes(8)))
        assert machine.unknown_frames == 1


REFUSALS = [b"HTTP/1.1 426 Upgrade Required\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"\r\n\r\n"]


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_refused_upgrade_ends_the_connection(answer: bytes) -> None:
    client = new_client()
    with pytest.raises(RemoteProtocolError):
        client.receive_data(answer)
    with pytest.raises(LocalProtocolError):
        client.receive_data(HEAD)


def test_an_answer_without_end_is_refused() -> None:
    client = new_client()
    with pytest.raises(RemoteProtocolError):
        for _ in range(20):
            client.receive_data(b"HTTP/1.1 101 " + b"x" * 1024)


def test_a_server_that_does_not_own_its_key_is_not_believed() -> None:
    client = new_client()
    client.receive_data(HEAD + frames.server_key(SERVER.public))
    impostor = SharedBox(NodePrivate.from_seed(b"\x99" * 32).raw, NODE.public.raw)
    with pytest.raises(AuthenticationError):
        client.receive_data(frames.server_info(frames.ServerInfo(2), impostor, bytes(24)))


def test_a_client_that_does_not_own_its_key_is_not_believed() -> None:
    box = SharedBox(NodePrivate.from_seed(b"\x99" * 32).raw, SERVER.public.raw)
    with pytest.raises(AuthenticationError):
        new_server().receive_data(frames.client_info(frames.ClientInfo(2), NODE.public, box, bytes(24)))


def test_a_key_of_low_order_gives_no_secret() -> None:
    payload = bytes(32) + bytes(24) + bytes(40)
    with pytest.raises(AuthenticationError):
        new_server().receive_data(frames.encode(FrameType.CLIENT_INFO, payload))


BROKEN = [
    ("hello is something else", False, frames.KEEP_ALIVE),
    ("short hello", False, frames.encode(FrameType.CLIENT_INFO, bytes(50))),
    ("packet without key", True, frames.encode(FrameType.SEND_PACKET, bytes(31))),
    ("note of no byte", True, frames.encode(FrameType.NOTE_PREFERRED)),
    ("short ping", True, frames.encode(FrameType.PING, bytes(7))),
    ("relay's frame", True, frames.encode(FrameType.FORWARD_PACKET, bytes(70))),
    ("relay's watch", True, frames.encode(FrameType.WATCH_CONNS)),
    ("relay's close", True, frames.encode(FrameType.CLOSE_PEER, bytes(32))),
    ("frame too long", True, b"\x04\x7f\xff\xff\xff"),
]


@pytest.mark.parametrize(("name", "is_open", "data"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_client_that_breaks_the_rules_is_dropped(name: str, is_open: bool, data: bytes) -> None:
    server = connected()[1] if is_open else new_server()
    with pytest.raises(RemoteProtocolError):
        server.receive_data(data)
    with pytest.raises(LocalProtocolError):
        server.receive_data(frames.KEEP_ALIVE)


def test_frames_before_a_broken_one_still_count() -> None:
    server = connected()[1]
    with pytest.raises(RemoteProtocolError):
        server.receive_data(frames.send_packet(PEER, b"last words") + b"\x04\x7f\xff\xff\xff")
    assert server.events() == [PacketsSent([PEER.raw + b"last words"])]


def test_what_the_state_forbids_is_a_mistake_of_the_caller() -> None:
    client = new_client()
    asks: list[Callable[[], None]] = [
        lambda: client.send_packet(PEER, b""),
        lambda: client.note_preferred(True),
        lambda: client.send_ping(bytes(8)),
        new_server().accept,
        lambda: connected()[0].send_packet(PEER, bytes(65537)),
        lambda: connected()[0].send_ping(bytes(7)),
    ]
    for ask in asks:
        with pytest.raises(LocalProtocolError):
            ask()


def test_sources_without_number_do_not_fill_memory() -> None:
    client, _ = connected()
    for number in range(5000):
        key = number.to_bytes(32, "big")
        client.receive_data(frames.packet_header(FrameType.RECV_PACKET, key, 0))
    sources = {event.source for event in client.events() if isinstance(event, PacketReceived)}
    assert len(sources) == 5000


@given(st.lists(st.binary(max_size=100), max_size=5), st.booleans(), st.sampled_from(list(FrameType)))
def test_any_bytes_give_events_or_the_declared_error(
    pieces: list[bytes], is_open: bool, kind: FrameType
) -> None:
    fresh = (new_client(), new_server())
    machines: tuple[DerpClient, DerpServerConnection] = connected() if is_open else fresh
    for machine in machines:
        try:
            if machine is fresh[0]:
                machine.receive_data(HEAD)
            for piece in pieces:
                machine.receive_data(frames.encode(kind, piece))
                machine.receive_data(piece)
        except RemoteProtocolError:
            pass


def as_relays() -> tuple[DerpClient, DerpServerConnection]:
    client = DerpClient(NODE, lambda: bytes(24), mesh_key="ab" * 32)
    server = new_server()
    client.receive_data(HEAD + server.data_to_send())
    server.receive_data(client.data_to_send())
    (introduced,) = server.events()
    assert isinstance(introduced, ClientIntroduced)
    assert introduced.info.mesh_key == "ab" * 32
    assert "abab" not in repr(introduced)
    server.accept(as_relay=True)
    client.receive_data(server.data_to_send())
    client.events()
    return client, server


def test_relays_watch_forward_and_close() -> None:
    client, server = as_relays()
    client.watch_connections()
    client.close_peer(PEER)
    server.receive_data(client.data_to_send())
    server.receive_data(frames.forward_header(NODE.public.raw, PEER.raw, 3) + b"abc")
    assert server.events() == [
        WatchRequested(),
        CloseRequested(PEER.raw),
        PacketForwarded(NODE.public.raw, PEER.raw, b"abc"),
    ]
    client.receive_data(frames.peer_present(PEER.raw) + frames.encode(FrameType.PEER_PRESENT, PEER.raw))
    assert client.events() == [
        PeerPresent(PEER.raw, frames.PresenceFlag.REGULAR),
        PeerPresent(PEER.raw, frames.PresenceFlag(0)),
    ]


@pytest.mark.parametrize(
    "data",
    [
        frames.encode(FrameType.FORWARD_PACKET, bytes(63)),
        frames.encode(FrameType.CLOSE_PEER, bytes(31)),
        frames.encode(FrameType.CLOSE_PEER, bytes(33)),
    ],
)
def test_a_relay_may_not_send_nonsense_either(data: bytes) -> None:
    _, server = as_relays()
    with pytest.raises(RemoteProtocolError):
        server.receive_data(data)
