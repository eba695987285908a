"""The relay with real sockets: forwarding over TLS, admission, bad input, stalled receivers, restarts."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from support.certificates import Pair
from support.derp import DerpSession
from support.eventually import eventually
from warren_runtime.derp_connection import CloseReason, DerpTimes
from warren_runtime.derp_server import Admit, DerpService
from warren_runtime.listener import Listener
from warren_runtime.opening import ServerTls
from warren_runtime.tls import client_context, server_context
from warren_wire import disco
from warren_wire.crypto import SharedBox
from warren_wire.derp import frames
from warren_wire.derp.client import KeepAliveReceived, PacketReceived, PeerGone, PongReceived, Restarting
from warren_wire.derp.frames import FrameType, PeerGoneReason
from warren_wire.derp.router import DropReason, Router
from warren_wire.keys import NodePrivate, NodePublic

SERVER = NodePrivate.from_seed(b"\x55" * 32)
NOBODY = NodePublic(b"\x77" * 32)


async def everyone(key: NodePublic, source: str) -> bool:
    return True


@dataclass
class Relay:
    service: DerpService
    port: int
    tls: ssl.SSLContext | None

    async def connect(self, node: NodePrivate | None = None) -> DerpSession:
        return await DerpSession.connect(self.port, node, tls=self.tls)

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to write anything to."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)
        try:
            yield reader, writer
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except (ConnectionError, ssl.SSLError):
                pass


@asynccontextmanager
async def running(
    pair: Pair | None = None,
    *,
    admit: Admit = everyone,
    times: DerpTimes | None = None,
    router: Router | None = None,
) -> AsyncIterator[Relay]:
    service = DerpService(SERVER, admit, times=times, router=router)
    app = web.Application()
    service.routes(app)
    context = server_context(pair.certificate, pair.key) if pair else None
    listener = Listener(app, service.upgrades(), tls=ServerTls(context) if context else None)
    await listener.start("127.0.0.1", 0)
    try:
        yield Relay(service, listener.port, client_context(pair.certificate) if pair else None)
    finally:
        service.close()
        await listener.close()


async def test_two_clients_exchange_packets_over_tls(pair: Pair) -> None:
    async with running(pair) as relay, await relay.connect() as home, await relay.connect() as office:
        packets = [bytes((number % 256,)) * size for number, size in enumerate((0, 1, 32, 1280, 65536))]
        await home.send(office.key, *packets)
        for packet in packets:
            assert await office.expect(PacketReceived) == (home.key, packet)
        await office.send(home.key, b"answer")
        assert await home.expect(PacketReceived) == (office.key, b"answer")
        stats = relay.service.stats()
        assert (stats.clients, stats.connections, stats.packets_sent) == (2, 2, 6)


async def test_the_order_of_packets_is_kept(pair: Pair) -> None:
    async with running(pair) as relay, await relay.connect() as home, await relay.connect() as office:
        sent = [number.to_bytes(4, "big") + bytes(200) for number in range(2000)]
        await home.send(office.key, *sent)
        received = [(await office.expect(PacketReceived)).packet for _ in sent]
        assert received == sent


async def test_the_answer_to_the_upgrade_is_what_stock_clients_expect() -> None:
    async with running() as relay:
        for value in (b"DERP", b"websocket"):
            async with relay.raw() as (reader, writer):
                writer.write(
                    b"GET /derp HTTP/1.1\r\nHost: relay\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n" % value
                )
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.split(b"\r\n") == [
                    b"HTTP/1.1 101 Switching Protocols",
                    b"Upgrade: DERP",
                    b"Connection: Upgrade",
                    b"Derp-Version: 2",
                    b"Derp-Public-Key: " + SERVER.public.raw.hex().encode(),
                    b"",
                    b"",
                ]
                assert await reader.readexactly(45) == frames.server_key(SERVER.public)


async def test_a_fast_start_client_sends_its_info_with_the_request(pair: Pair) -> None:
    async with running(pair) as relay, relay.raw() as (reader, writer):
        node = NodePrivate.from_seed(os.urandom(32))
        box = SharedBox(node.raw, SERVER.public.raw)
        info = frames.client_info(frames.ClientInfo(2), node.public, box, os.urandom(24))
        head = (
            b"GET /derp HTTP/1.1\r\nHost: relay\r\nUpgrade: DERP\r\n"
            b"Connection: Upgrade\r\nDerp-Fast-Start: 1\r\n\r\n"
        )
        writer.write(
            head + info + frames.note_preferred(True) + frames.send_packet(node.public, b"to myself")
        )
        assert await reader.readexactly(45) == frames.server_key(SERVER.public)
        kind, length = await reader.readexactly(1), int.from_bytes(await reader.readexactly(4), "big")
        assert kind[0] == FrameType.SERVER_INFO
        assert frames.open_server_info(await reader.readexactly(length), box).version == 2
        expected = frames.packet_header(FrameType.RECV_PACKET, node.public.raw, 9) + b"to myself"
        assert await reader.readexactly(len(expected)) == expected
        assert relay.service.stats().home_clients == 1


async def test_pages_on_the_same_port(pair: Pair) -> None:
    async with running(pair) as relay, aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{relay.port}"
        tls = relay.tls or True
        for path in ("/derp/probe", "/derp/latency-check"):
            async with session.get(url + path, ssl=tls) as response:
                assert response.status == 200
                assert response.headers["Access-Control-Allow-Origin"] == "*"
            async with session.post(url + path, ssl=tls) as response:
                assert response.status == 405
        async with session.get(url + "/derp", ssl=tls) as response:
            assert response.status == 426
        challenge = {"X-Tailscale-Challenge": "ts_relay.example:1"}
        async with session.get(url + "/generate_204", ssl=tls) as response:
            assert response.status == 204
            assert "X-Tailscale-Response" not in response.headers
        challenge = {"X-Tailscale-Challenge": "relay.example:1"}
        async with session.get(url + "/generate_204", headers=challenge, ssl=tls) as response:
            assert response.headers["X-Tailscale-Response"] == "response relay.example:1"


async def test_a_websocket_without_its_key_is_refused() -> None:
    async with running() as relay, relay.raw() as (reader, writer):
        writer.write(
            b"GET /derp HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: derp\r\n\r\n"
        )
        assert (await reader.read()).startswith(b"HTTP/1.1 400")


async def test_only_admitted_keys_get_in() -> None:
    friend, stranger = (NodePrivate.from_seed(os.urandom(32)) for _ in range(2))
    asked: list[tuple[NodePublic, str]] = []

    async def members(key: NodePublic, source: str) -> bool:
        asked.append((key, source))
        return key == friend.public

    async with running(admit=members) as relay:
        with pytest.raises(ConnectionError):
            await relay.connect(stranger)
        async with await relay.connect(friend) as session:
            session.machine.send_ping(b"12345678")
            await session.flush()
            assert await session.expect(PongReceived) == PongReceived(b"12345678")
        assert asked == [(stranger.public, "127.0.0.1"), (friend.public, "127.0.0.1")]
        assert relay.service.stats().closes[CloseReason.REFUSED] == 1


async def test_an_admission_that_hangs_refuses_and_holds_nobody_up() -> None:
    friend = NodePrivate.from_seed(os.urandom(32))

    async def hang_for_strangers(key: NodePublic, source: str) -> bool:
        if key != friend.public:
            await asyncio.Event().wait()
        return True

    async with running(admit=hang_for_strangers, times=DerpTimes(admission=0.2)) as relay:
        stranger = asyncio.create_task(relay.connect())
        async with await relay.connect(friend):
            with pytest.raises(ConnectionError):
                await stranger


async def test_a_key_that_lost_its_right_is_disconnected() -> None:
    async with running() as relay, await relay.connect() as home:
        assert relay.service.disconnect(NOBODY) == 0
        assert relay.service.disconnect(home.key) == 1
        with pytest.raises(ConnectionError):
            await home.next_event()


async def test_a_client_that_does_not_introduce_itself_is_closed() -> None:
    async with running(times=DerpTimes(handshake=0.05)) as relay, relay.raw() as (reader, writer):
        writer.write(b"GET /derp HTTP/1.1\r\nHost: relay\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n")
        assert (await reader.read()).endswith(frames.server_key(SERVER.public))
        assert relay.service.stats().closes[CloseReason.HANDSHAKE_TIMEOUT] == 1


MALFORMED = [
    ("too long a packet", b"\x04\x00\x01\x00\x21" + bytes(1000)),
    ("an endless frame", b"\xee\xff\xff\xff\xff"),
    ("a note without a byte", frames.encode(FrameType.NOTE_PREFERRED)),
    ("a packet without a key", frames.encode(FrameType.SEND_PACKET, bytes(31))),
    ("a wish of a relay", frames.encode(FrameType.WATCH_CONNS)),
]


@pytest.mark.parametrize(("name", "data"), MALFORMED, ids=[row[0] for row in MALFORMED])
async def test_a_malformed_frame_closes_that_connection_alone(name: str, data: bytes) -> None:
    async with running() as relay, await relay.connect() as home, await relay.connect() as office:
        async with await relay.connect() as broken:
            broken.writer.write(data)
            with pytest.raises(ConnectionError):
                await broken.next_event()
        assert relay.service.stats().closes[CloseReason.PROTOCOL_ERROR] == 1
        await home.send(office.key, b"undisturbed")
        assert await office.expect(PacketReceived) == (home.key, b"undisturbed")


async def test_a_key_without_its_private_key_gets_nowhere() -> None:
    async with running() as relay, relay.raw() as (reader, writer):
        mine = NodePrivate.from_seed(os.urandom(32))
        box = SharedBox(mine.raw, SERVER.public.raw)
        writer.write(b"GET /derp HTTP/1.1\r\nHost: relay\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n")
        writer.write(frames.client_info(frames.ClientInfo(2), NOBODY, box, os.urandom(24)))
        await reader.read()
        assert relay.service.stats().closes[CloseReason.AUTHENTICATION] == 1


async def test_peers_hear_when_a_sender_leaves_or_was_never_there() -> None:
    async with running() as relay, await relay.connect() as home:
        async with await relay.connect() as office:
            await office.send(home.key, b"hello")
            assert await home.expect(PacketReceived) == (office.key, b"hello")
        assert await home.expect(PeerGone) == PeerGone(office.key, PeerGoneReason.DISCONNECTED)
        await home.send(NOBODY, b"plain packets vanish", disco.MAGIC + bytes(100))
        assert await home.expect(PeerGone) == PeerGone(NOBODY, PeerGoneReason.NOT_HERE)
        assert relay.service.stats().drops[DropReason.UNKNOWN_DESTINATION] == 2


async def test_the_newest_connection_of_a_key_gets_the_traffic() -> None:
    node = NodePrivate.from_seed(os.urandom(32))
    async with running() as relay, await relay.connect() as office, await relay.connect(node) as first:
        async with await relay.connect(node) as second:
            await office.send(node.public, b"to the newest")
            assert (await second.expect(PacketReceived)).packet == b"to the newest"
            first.machine.send_ping(bytes(8))
            first.machine.note_preferred(True)
            await first.flush()
            await first.expect(PongReceived)
            await office.send(node.public, b"to the last writer")
            assert (await first.expect(PacketReceived)).packet == b"to the last writer"
        await eventually(lambda: relay.service.stats().connections == 2)
        await office.send(node.public, b"to the one left")
        assert (await first.expect(PacketReceived)).packet == b"to the one left"


async def test_idle_clients_are_kept_alive() -> None:
    times = DerpTimes(keep_alive=0.01, keep_alive_jitter=0.01)
    async with running(times=times) as relay, await relay.connect() as home:
        await home.expect(KeepAliveReceived)
        await home.expect(KeepAliveReceived)


async def test_a_stalled_receiver_loses_packets_and_slows_nobody(pair: Pair) -> None:
    router = Router(bulk_bytes=64 * 1024)
    times = DerpTimes(write=3600)
    async with (
        running(pair, router=router, times=times) as relay,
        await relay.connect() as home,
        await relay.connect() as stalled,
        await relay.connect() as office,
    ):
        stalled.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads too
        while relay.service.stats().drops[DropReason.QUEUE_FULL] == 0:
            await home.send(stalled.key, *[bytes(32_000)] * 8)
            await home.send(office.key, b"still here")
            assert (await office.expect(PacketReceived)).packet == b"still here"
        assert relay.service.stats().queued_bytes <= 64 * 1024
        stalled.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await stalled.expect(PacketReceived)


async def test_a_receiver_that_takes_nothing_is_closed_after_the_write_timeout() -> None:
    async with (
        running(times=DerpTimes(write=0.1)) as relay,
        await relay.connect() as home,
        await relay.connect() as stalled,
    ):
        stalled.writer.transport.pause_reading()  # type: ignore[attr-defined]
        while relay.service.stats().closes[CloseReason.WRITE_TIMEOUT] == 0:
            await home.send(stalled.key, *[bytes(60_000)] * 8)
            home.machine.send_ping(bytes(8))
            await home.flush()
            await home.next_event()
        stalled.writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionError):
            while True:
                await stalled.next_event()


async def test_a_restart_is_announced() -> None:
    async with running() as relay, await relay.connect() as home:
        relay.service.close(reconnect_in_ms=250, try_for_ms=30_000)
        assert await home.expect(Restarting) == Restarting(0.25, 30.0)
        with pytest.raises(ConnectionError):
            await home.next_event()
