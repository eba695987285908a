"""Relay connections of the agent against the real relay service on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from support.certificates import Pair, self_signed
from support.derp import DerpSession
from warren_agent.paths.counters import TransportCounters
from warren_agent.transport.relay_dial import RelayDialError, RelayTls, https_latency_seconds
from warren_agent.transport.relay_pool import RelayPool
from warren_runtime.derp_server import DerpService
from warren_runtime.listener import Listener
from warren_runtime.opening import ServerTls
from warren_runtime.tls import client_context, server_context
from warren_wire.control.messages import DERPNode, DERPRegion
from warren_wire.derp.client import ClientEvent, PacketReceived
from warren_wire.keys import NodePrivate, NodePublic

HOME, OTHER = 900, 901


class Relay:
    """A relay that can be stopped and started at the same port."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.port = 0

    async def start(self) -> None:
        async def admit(key: NodePublic, source: str) -> bool:
            return True

        self.service = DerpService(NodePrivate.from_seed(os.urandom(32)), admit)
        app = web.Application()
        self.service.routes(app)
        self.listener = Listener(
            app,
            self.service.upgrades(),
            tls=ServerTls(server_context(self.pair.certificate, self.pair.key)),
        )
        await self.listener.start("127.0.0.1", self.port)
        self.port = self.listener.port

    async def stop(self) -> None:
        self.service.close()
        await self.listener.close()

    def client_tls(self) -> ssl.SSLContext:
        return client_context(self.pair.certificate)

    def pin(self) -> str:
        certificate = load_pem_x509_certificate(self.pair.certificate.read_bytes())
        return "sha256-raw:" + hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()

    def node(self, **settings: object) -> DERPNode:
        given = {"name": "a", "host_name": "relay.example", "ipv4": "127.0.0.1", "derp_port": self.port}
        return DERPNode(**(given | settings))  # type: ignore[arg-type]


class Member:
    """A pool, what it received and which regions are connected."""

    def __init__(self, tls: ssl.SSLContext, quiet: float = 60.0, sign: float = 5.0) -> None:
        self.key = NodePrivate.from_seed(os.urandom(32))
        self.counters = TransportCounters()
        self.packets: asyncio.Queue[tuple[int, NodePublic, bytes]] = asyncio.Queue()
        self.connected: set[int] = set()
        self.changed = asyncio.Event()
        self.pool = RelayPool(
            node=self.key,
            tls=RelayTls(tls),
            mark=0,
            ipv6=False,
            counters=self.counters,
            on_events=self._on_events,
            on_state=self._on_state,
            quiet_seconds=quiet,
            sign_seconds=sign,
        )

    def _on_events(self, region: int, events: Sequence[ClientEvent]) -> None:
        for event in events:
            if isinstance(event, PacketReceived):
                self.packets.put_nowait((region, *event))

    def _on_state(self, region: int, connected: bool) -> None:
        (self.connected.add if connected else self.connected.discard)(region)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not condition():
                self.changed.clear()
                try:
                    async with asyncio.timeout(0.05):
                        await self.changed.wait()
                except TimeoutError:
                    continue

    def use(self, **nodes: DERPNode) -> None:
        regions = {"home": HOME, "other": OTHER}
        self.pool.set_regions(
            {
                regions[name]: DERPRegion(region_id=regions[name], nodes=(node,))
                for name, node in nodes.items()
            }
        )


@asynccontextmanager
async def running(tls: ssl.SSLContext, quiet: float = 60.0, sign: float = 5.0) -> AsyncIterator[Member]:
    member = Member(tls, quiet, sign)
    task = asyncio.create_task(member.pool.run())
    await asyncio.sleep(0)
    try:
        yield member
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    relay = Relay(self_signed(tmp_path, "relay.example"))
    await relay.start()
    yield relay
    await relay.stop()


async def test_home_is_connected_at_once_and_knows_that_it_is_home(relay: Relay) -> None:
    async with running(relay.client_tls()) as member:
        member.use(home=relay.node(), other=relay.node())
        member.pool.set_home(HOME)
        await member.until(lambda: relay.service.stats().home_clients == 1)
        assert member.connected == {HOME}
        assert member.pool.is_connected(HOME)
        assert member.pool.heard_at(HOME) is not None
        assert member.pool.heard_at(OTHER) is None


async def test_packets_flow_both_ways_and_the_first_ones_wait_for_the_connection(relay: Relay) -> None:
    async with (
        running(relay.client_tls()) as member,
        await DerpSession.connect(relay.port, tls=insecure()) as peer,
    ):
        member.use(home=relay.node())
        member.pool.send(HOME, peer.key, [b"first", b"second"])
        assert [(await peer.expect(PacketReceived)).packet for _ in range(2)] == [b"first", b"second"]
        await peer.send(member.key.public, b"answer")
        assert await member.packets.get() == (HOME, peer.key, b"answer")
        assert member.counters.relay_sent == 2


def insecure() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_a_relay_that_comes_back_is_used_again(relay: Relay) -> None:
    async with running(relay.client_tls()) as member:
        member.use(home=relay.node())
        member.pool.set_home(HOME)
        await member.until(lambda: member.connected == {HOME})
        await relay.stop()
        await member.until(lambda: member.connected == set())
        await member.until(lambda: HOME in member.pool.errors())
        await relay.start()
        await member.until(lambda: member.connected == {HOME})
        assert member.pool.errors() == {}


async def test_a_changed_region_is_connected_anew_and_a_removed_one_is_left(relay: Relay) -> None:
    async with running(relay.client_tls()) as member:
        member.use(home=relay.node())
        member.pool.set_home(HOME)
        await member.until(lambda: member.counters.relay_connects == 1)
        member.use(home=relay.node())
        member.use(home=relay.node(name="b"))
        await member.until(lambda: member.counters.relay_connects == 2)
        member.use()
        await member.until(lambda: relay.service.stats().clients == 0)


async def test_packets_for_a_region_that_is_not_there_are_counted(relay: Relay) -> None:
    async with running(relay.client_tls()) as member:
        member.pool.send(7, member.key.public, [b"lost"])
        assert member.counters.relay_dropped_no_route == 1


async def test_packets_that_wait_too_long_make_room_for_newer_ones(relay: Relay) -> None:
    member = Member(relay.client_tls())
    member.use(home=relay.node())
    for _ in range(100):
        member.pool.send(HOME, member.key.public, [b"waiting"])
    assert member.counters.relay_dropped_congested == 36


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"host_name": "127.0.0.1"},
        {"host_name": "front.example", "cert_name": "relay.example"},
        {"host_name": "front.example", "insecure_for_tests": True},
    ],
)
async def test_a_relay_proves_itself_as_the_map_says(relay: Relay, settings: dict[str, object]) -> None:
    tls = RelayTls(relay.client_tls())
    assert await https_latency_seconds(relay.node(**settings), tls, mark=0, ipv6=False) < 10


async def test_a_pinned_certificate_needs_no_authority(relay: Relay) -> None:
    tls = RelayTls(client_context())
    node = relay.node(host_name="", cert_name=relay.pin())
    assert await https_latency_seconds(node, tls, mark=0, ipv6=False) < 10


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"host_name": "other.example"}, "other.example"),
        ({"cert_name": "other.example"}, "not for other.example"),
        ({"cert_name": "sha256-raw:" + 64 * "0"}, "not the one"),
        ({"ipv4": "none", "host_name": ""}, "no usable address"),
        ({"ipv4": "not-an-address"}, "no usable address"),
        ({"derp_port": 1}, "127.0.0.1"),
    ],
)
async def test_a_relay_that_cannot_prove_itself_is_refused(
    relay: Relay, settings: dict[str, object], reason: str
) -> None:
    tls = RelayTls(relay.client_tls())
    with pytest.raises(RelayDialError, match=reason):
        await https_latency_seconds(relay.node(**settings), tls, mark=0, ipv6=False)
    async with running(relay.client_tls()) as member:
        member.use(home=relay.node(**settings))
        member.pool.set_home(HOME)
        await member.until(lambda: bool(member.pool.errors()))
        assert reason in member.pool.errors()[HOME]


async def test_an_unknown_authority_is_refused(relay: Relay) -> None:
    with pytest.raises(RelayDialError, match="certificate"):
        await https_latency_seconds(relay.node(), RelayTls(client_context()), mark=0, ipv6=False)


async def test_a_living_connection_survives_a_network_change(relay: Relay) -> None:
    async with running(relay.client_tls()) as member:
        member.use(home=relay.node())
        member.pool.set_home(HOME)
        await member.until(lambda: member.connected == {HOME})
        await member.pool.probe(within_seconds=0.3)
        assert member.connected == {HOME}
        assert member.counters.relay_connects == 1


async def test_a_relay_that_hangs_with_its_connection_up_is_left_and_taken_again(relay: Relay) -> None:
    async with stalling(relay.port) as wire, running(relay.client_tls(), quiet=0.05, sign=0.2) as member:
        member.use(home=relay.node(derp_port=wire.port))
        member.pool.set_home(HOME)
        await member.until(lambda: member.connected == {HOME})
        wire.flowing.clear()
        member.pool.send(HOME, member.key.public, [b"into a hanging relay"])
        await member.until(lambda: member.counters.relay_silent > 0)
        await member.until(lambda: member.connected == set())
        wire.flowing.set()
        await member.until(lambda: member.connected == {HOME})


async def test_a_quiet_relay_that_answers_stays_connected(relay: Relay) -> None:
    async with running(relay.client_tls(), quiet=0.01, sign=1.0) as member:
        member.use(home=relay.node())
        member.pool.set_home(HOME)
        await member.until(lambda: member.connected == {HOME})
        connected_at = member.pool.heard_at(HOME)
        assert connected_at is not None
        member.pool.send(HOME, NodePrivate.from_seed(os.urandom(32)).public, [b"to nobody"])
        await member.until(lambda: (member.pool.heard_at(HOME) or 0) > connected_at)
        assert member.counters.relay_connects == 1
        assert member.counters.relay_silent == 0


class Wire:
    """A TCP connection that somebody can hold up without breaking it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.one_way(reader, there_writer))
                group.create_task(self.one_way(there_reader, writer))
        except* OSError:
            pass

    async def one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.flowing.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def stalling(target: int) -> AsyncIterator[Wire]:
    wire = Wire(target)
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        wire.flowing.set()
        server.close()
