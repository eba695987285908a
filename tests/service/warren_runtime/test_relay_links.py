"""Two relays of a region over TLS, and two workers of one relay over Unix sockets."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from support.certificates import Pair
from support.derp import DerpSession
from support.eventually import eventually
from warren_runtime.backoff import Backoff
from warren_runtime.derp_connection import CloseReason, RateLimit
from warren_runtime.derp_server import DerpService
from warren_runtime.listener import Listener
from warren_runtime.opening import ServerTls
from warren_runtime.relay_links import Peer, RelayLinks
from warren_runtime.tls import client_context, server_context
from warren_wire import disco
from warren_wire.derp import frames
from warren_wire.derp.client import DerpClient, HealthChanged, PacketReceived, PeerGone, PongReceived, Ready
from warren_wire.derp.frames import PeerGoneReason
from warren_wire.derp.router import DropReason
from warren_wire.keys import NodePrivate, NodePublic

MESH_KEY = "5a" * 32


async def everyone(key: NodePublic, source: str) -> bool:
    return True


@dataclass
class Relay:
    service: DerpService
    listener: Listener
    tls: ssl.SSLContext | None = None

    async def connect(self, node: NodePrivate | None = None) -> DerpSession:
        return await DerpSession.connect(self.listener.port, node, tls=self.tls)

    async def connect_relay(self, mesh_key: str) -> DerpSession:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port, ssl=self.tls)
        session = DerpSession(NodePrivate.from_seed(os.urandom(32)), reader, writer)
        session.machine = DerpClient(session.node, lambda: os.urandom(24), mesh_key=mesh_key)
        writer.write(session.machine.upgrade_request("localhost"))
        try:
            await session.expect(Ready)
        except ConnectionError:
            await session.close()
            raise
        return session


@asynccontextmanager
async def relay(
    pair: Pair | None = None, *, port: int = 0, limit: RateLimit | None = None
) -> AsyncIterator[Relay]:
    service = DerpService(NodePrivate.from_seed(os.urandom(32)), everyone, mesh_key=MESH_KEY, limit=limit)
    context = server_context(pair.certificate, pair.key) if pair else None
    listener = Listener(web.Application(), service.upgrades(), tls=ServerTls(context) if context else None)
    await listener.start("127.0.0.1", port)
    try:
        yield Relay(service, listener, client_context(pair.certificate) if pair else None)
    finally:
        service.close()
        await listener.close()


@asynccontextmanager
async def linked(near: Relay, *peers: Peer) -> AsyncIterator[RelayLinks]:
    tls = near.tls
    trust = (lambda: tls) if tls is not None else None
    links = RelayLinks(near.service, peers, MESH_KEY, trust, backoff=lambda: Backoff(0.01, 0.02))
    task = asyncio.create_task(links.run())
    try:
        yield links
    finally:
        task.cancel()
        await asyncio.wait([task])


def peer_of(other: Relay) -> Peer:
    return Peer("other", "127.0.0.1", other.listener.port)


@asynccontextmanager
async def region(pair: Pair | None) -> AsyncIterator[tuple[Relay, Relay]]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(relay(pair))
        two = await stack.enter_async_context(relay(pair))
        # Each list names the relay itself too, as when all have the same settings.
        for near in (one, two):
            await stack.enter_async_context(linked(near, peer_of(one), peer_of(two)))
        await eventually(lambda: one.service.stats().watchers == two.service.stats().watchers == 1)
        yield one, two


async def test_clients_of_two_relays_of_a_region_reach_each_other(pair: Pair) -> None:
    async with region(pair) as (one, two), await one.connect() as home, await two.connect() as office:
        await eventually(lambda: one.service.stats().remote_clients == 1)
        await eventually(lambda: two.service.stats().remote_clients == 1)
        packets = [number.to_bytes(4, "big") + bytes(1000) for number in range(200)]
        await home.send(office.key, *packets)
        assert [(await office.expect(PacketReceived)).packet for _ in packets] == packets
        await office.send(home.key, disco.MAGIC)
        assert await home.expect(PacketReceived) == (office.key, disco.MAGIC)
        await home.close()
        assert await office.expect(PeerGone) == PeerGone(home.key, PeerGoneReason.DISCONNECTED)


async def test_a_relay_that_dies_takes_its_clients_and_comes_back() -> None:
    async with relay() as one, await one.connect() as home, relay() as two:
        port = two.listener.port
        async with linked(one, peer_of(two)) as running, await two.connect() as office:
            await eventually(lambda: one.service.stats().remote_clients == 1)
            two.service.close()
            await two.listener.close()
            await eventually(lambda: one.service.stats().remote_clients == 0)
            await eventually(lambda: running.lost == 1)
            await home.send(office.key, disco.MAGIC)
            assert await home.expect(PeerGone) == PeerGone(office.key, PeerGoneReason.NOT_HERE)
            async with relay(port=port) as again, await again.connect() as office:
                await eventually(lambda: one.service.stats().remote_clients == 1)
                await home.send(office.key, b"back")
                assert (await office.expect(PacketReceived)).packet == b"back"


async def test_workers_share_a_key_and_their_clients(tmp_path: Path) -> None:
    key = NodePrivate.from_seed(os.urandom(32))
    async with AsyncExitStack() as stack:
        workers = []
        for number in range(2):
            service = DerpService(key, everyone, mesh_key=MESH_KEY)
            public = Listener(web.Application(), service.upgrades())
            private = Listener(web.Application(), service.sibling_upgrades())
            await public.start("127.0.0.1", 0)
            await private.start_unix(str(tmp_path / f"{number}.sock"))
            for closing in (private.close, public.close):
                stack.push_async_callback(closing)
            stack.callback(service.close)
            workers.append(Relay(service, public))
        for near, other in ((0, 1), (1, 0)):
            peer = Peer(f"worker {other}", path=str(tmp_path / f"{other}.sock"))
            await stack.enter_async_context(linked(workers[near], peer))
        home = await stack.enter_async_context(await workers[0].connect())
        office = await stack.enter_async_context(await workers[1].connect())
        await eventually(lambda: all(each.service.stats().remote_clients == 1 for each in workers))
        await home.send(office.key, b"across processes")
        assert await office.expect(PacketReceived) == (home.key, b"across processes")


async def test_a_wrong_mesh_key_is_refused_and_counted() -> None:
    async with relay() as one:
        with pytest.raises(ConnectionError):
            await one.connect_relay("00" * 32)
        stats = one.service.stats()
        assert stats.handshake_failures[CloseReason.WRONG_MESH_KEY] == 1


async def test_a_relay_may_close_a_client() -> None:
    async with relay() as one, await one.connect() as home, await one.connect_relay(MESH_KEY) as other:
        other.machine.close_peer(home.key)
        await other.flush()
        with pytest.raises(ConnectionError):
            await home.next_event()
        assert one.service.stats().closes[CloseReason.CLOSED_BY_RELAY] == 1


async def test_a_forwarded_packet_is_not_forwarded_again() -> None:
    async with relay() as one, await one.connect_relay(MESH_KEY) as other:
        packet = frames.forward_header(other.key.raw, NodePublic(b"\x77" * 32).raw, 1) + b"x"
        other.writer.write(packet + frames.ping(b"12345678"))
        assert await other.expect(PongReceived) == PongReceived(b"12345678")
        assert one.service.stats().drops[DropReason.UNKNOWN_FORWARDED] == 1


async def test_a_client_over_its_rate_is_slowed_told_and_loses_nothing() -> None:
    async with (
        relay(limit=RateLimit(bytes_per_second=2_000_000, burst_bytes=70_000)) as one,
        await one.connect() as loud,
        await one.connect() as office,
    ):
        sending = asyncio.create_task(loud.send(office.key, *[bytes(1000)] * 400))
        for _ in range(400):
            await office.expect(PacketReceived)
        await sending
        told = await loud.expect(HealthChanged)
        assert "limits" in told.problem
        assert one.service.stats().drops[DropReason.QUEUE_FULL] == 0
