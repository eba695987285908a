"""Every parser that a relay shows to strangers, as a function of bytes: a value or the declared error.

Used with fixed inputs by the unit tests and with a coverage-guided fuzzer by `make fuzz`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from warren_runtime.http_head import HeadError, parse_head, split_head
from warren_wire import disco, stun, websocket
from warren_wire.derp import frames
from warren_wire.derp.client import DerpClient
from warren_wire.derp.frames import FrameReader
from warren_wire.derp.router import ConnectionId, Kind, Router
from warren_wire.derp.server import ClientIntroduced, DerpServerConnection, PacketForwarded, PacketsSent
from warren_wire.errors import DecodeError, RemoteProtocolError
from warren_wire.keys import NodePrivate, NodePublic

NODE: Final = NodePrivate.from_seed(b"\x11" * 32)
SERVER: Final = NodePrivate.from_seed(b"\x22" * 32)
_HEAD: Final = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"

Target = Callable[[bytes], None]


def _pieces(data: bytes) -> Iterator[bytes]:
    """Cut at places that the data itself chooses."""
    position = 0
    while position < len(data):
        step = 1 + data[position] % 97
        yield data[position : position + step]
        position += step


def fuzz_frames(data: bytes) -> None:
    whole, cut = FrameReader(), FrameReader()
    expected = whole.feed(data)
    found = [frame for piece in _pieces(data) for frame in cut.feed(piece)]
    assert found == expected


def _server(as_relay: bool) -> DerpServerConnection:
    client, server = DerpClient(NODE, lambda: bytes(24)), DerpServerConnection(SERVER, bytes(24))
    client.receive_data(_HEAD + server.data_to_send())
    server.receive_data(client.data_to_send())
    server.events()
    server.accept(as_relay=as_relay)
    server.data_to_send()
    return server


def fuzz_server_handshake(data: bytes) -> None:
    server = DerpServerConnection(SERVER, bytes(24))
    try:
        for piece in _pieces(data):
            server.receive_data(piece)
    except RemoteProtocolError:
        pass
    assert not any(isinstance(event, ClientIntroduced) for event in server.events())


def fuzz_server(data: bytes) -> None:
    server = _server(as_relay=bool(data[:1] > b"\x7f"))
    try:
        for piece in _pieces(data):
            server.receive_data(piece)
    except RemoteProtocolError:
        pass
    for event in server.events():
        if isinstance(event, PacketsSent):
            assert all(len(payload) >= 32 for payload in event.payloads)
        elif isinstance(event, PacketForwarded):
            assert len(event.source) == len(event.destination) == 32


def fuzz_client(data: bytes) -> None:
    client, server = DerpClient(NODE, lambda: bytes(24)), DerpServerConnection(SERVER, bytes(24))
    client.receive_data(_HEAD + server.data_to_send())
    server.receive_data(client.data_to_send())
    server.accept()
    client.receive_data(server.data_to_send())
    try:
        for piece in _pieces(data):
            client.receive_data(piece)
    except RemoteProtocolError:
        pass
    assert len(client.data_to_send()) < 64 * 1024


def fuzz_client_head(data: bytes) -> None:
    client = DerpClient(NODE, lambda: bytes(24))
    try:
        for piece in _pieces(data):
            client.receive_data(piece)
    except RemoteProtocolError:
        pass


def fuzz_websocket(data: bytes) -> None:
    reader = websocket.WebSocketReader()
    try:
        for piece in _pieces(data):
            reader.receive_data(piece)
    except DecodeError:
        pass
    assert len(reader.replies()) <= 256


def fuzz_http_head(data: bytes) -> None:
    try:
        length = split_head(data)
        if length is not None:
            parse_head(data[:length], ("192.0.2.1", 1))
    except HeadError:
        pass


def fuzz_stun(data: bytes) -> None:
    for parse in (stun.parse_binding_request, stun.parse_binding_response):
        try:
            parse(data)
        except DecodeError:
            pass


def fuzz_disco(data: bytes) -> None:
    disco.looks_like_disco(data)
    try:
        disco.sender_of(data)
    except DecodeError:
        pass


def fuzz_router(data: bytes) -> None:
    """The bytes are a script; the books balance whatever it says."""
    router = Router(bulk_bytes=300, disco_bytes=200, max_queued_bytes=900)
    alive: list[ConnectionId] = []
    for position in range(0, len(data) - 2, 3):
        action, one, other = data[position : position + 3]
        key = bytes((other % 8,)) * 32
        packet = data[position : position + one % 64]
        if action % 8 < 2 or not alive:
            kind = (Kind.CLIENT, Kind.CLIENT, Kind.SIBLING, Kind.REGION)[one % 4]
            owner = NodePublic(key)
            alive.append(
                router.connect(owner)[0] if kind is Kind.CLIENT else router.connect_relay(owner, kind)
            )
            continue
        identity = alive[one % len(alive)]
        match action % 8:
            case 2:
                router.forward_all(identity, [key + packet, key + disco.MAGIC + packet, key], 0.0)
            case 3:
                router.deliver(identity, key, bytes((one % 8,)) * 32, packet, 0.0)
            case 4:
                router.watch(identity)
            case 5:
                router.link_present(identity, key)
            case 6:
                router.link_gone(identity, key)
            case _:
                router.take(identity, 100)
                if one % 3 == 0:
                    router.disconnect(identity)
                    alive.remove(identity)
    for identity in alive:
        router.disconnect(identity)
    left = (router.queued_bytes, router.clients, router.remote_clients, router.watchers, router.connections)
    assert left == (0, 0, 0, 0, 0)


TARGETS: Final[Mapping[str, Target]] = {
    name.removeprefix("fuzz_"): target
    for name, target in sorted(globals().items())
    if name.startswith("fuzz_")
}

SEEDS: Final = (
    frames.send_packet(NODE.public, bytes(40)),
    frames.note_preferred(True) + frames.ping(b"12345678") + frames.KEEP_ALIVE,
    frames.forward_header(bytes(32), bytes(32), 4) + b"data" + frames.WATCH_CONNS,
    frames.close_peer(bytes(32)) + frames.peer_present(bytes(32)) + frames.restarting(1, 2),
    frames.peer_gone(bytes(32), frames.PeerGoneReason.NOT_HERE) + frames.health("full"),
    frames.server_key(SERVER.public),
    b"GET /derp HTTP/1.1\r\nHost: relay\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n",
    _HEAD + frames.server_key(SERVER.public),
    b"\x82\x85abcd" + bytes(5) + b"\x89\x80abcd\x88\x82abcd" + bytes(2),
    stun.binding_request(bytes(12)),
    disco.MAGIC + bytes(80),
)


def inputs(count: int, seed: int) -> Iterator[bytes]:
    """Seeds, changed a little: bytes flipped, pieces cut out, doubled, or joined with others."""
    chooser = random.Random(seed)
    for _ in range(count):
        data = bytearray(chooser.choice(SEEDS))
        for _ in range(chooser.randint(0, 6)):
            position = chooser.randrange(len(data) + 1)
            match chooser.randrange(5):
                case 0 if position < len(data):
                    data[position] = chooser.choice((0, 1, 127, 128, 255, chooser.randrange(256)))
                case 1:
                    del data[position : position + chooser.randint(1, 40)]
                case 2:
                    data[position:position] = chooser.randbytes(chooser.randint(1, 40))
                case 3:
                    data += chooser.choice(SEEDS)
                case _:
                    data[position:position] = data[: chooser.randint(0, 60)]
        yield bytes(data)
