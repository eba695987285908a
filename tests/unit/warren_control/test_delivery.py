"""How changes reach receivers: what is done once for all of them, and what a slow or broken one costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry

from support.control_records import NOW, node, snapshot
from support.eventually import eventually
from support.memory_records import MemoryRecords
from warren_control.changes import Patch, patched
from warren_control.hub import KEEP_ALIVE_JITTER_SECONDS, KEEP_ALIVE_SECONDS, Hub, MapStream
from warren_control.metrics import ControlMetrics
from warren_control.netmap.builder import MapSettings, NetmapBuilder
from warren_control.netmap.peers import Descriptions
from warren_control.relaymap import RelayMap
from warren_control.store import Store
from warren_control.transport import frames
from warren_control.transport.follower import Follower
from warren_control.transport.maps import Maps
from warren_wire.control.mapstream import FrameDecoder, FrameEncoder
from warren_wire.control.messages import DNSConfig, MapResponse, decode


class Client:
    """The responder of one poll; it keeps what it is sent and is idle as long as the test says."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.busy = False
        self._act: Callable[[], None] | None = None

    @property
    def idle(self) -> bool:
        return not self.busy

    def when_idle(self, act: Callable[[], None]) -> None:
        self._act = act

    def becomes_idle(self) -> None:
        self.busy, act, self._act = False, self._act, None
        if act is not None:
            act()

    def send(self, data: bytes) -> None:
        self.frames.append(data)

    async def write(self, data: bytes) -> None:
        self.send(data)

    def respond(self, status: int, headers: Sequence[tuple[str, str]], body: bytes, *, end: bool) -> None:
        raise AssertionError("a follower only sends")

    def finish(self) -> None:
        raise AssertionError("a follower only sends")

    @property
    def messages(self) -> list[MapResponse]:
        documents = FrameDecoder(compressed=True).feed(b"".join(self.frames))
        return [decode(MapResponse, document) for document in documents]


class BrokenClient(Client):
    def send(self, data: bytes) -> None:
        raise ValueError("no")


class Mesh:
    """A hub with a client for each of so many nodes."""

    def __init__(self, size: int) -> None:
        self.hub = Hub()
        nodes = [node(number, online=True) for number in range(1, size + 1)]
        self.store = Store(MemoryRecords(), snapshot(*nodes), self.hub.publish)
        relays = RelayMap({}, None)
        builder = NetmapBuilder(MapSettings("mesh.internal", DNSConfig(), relays))
        self.maps = Maps(self.store, builder, lambda: NOW, ControlMetrics(CollectorRegistry()))
        self.clients: dict[int, Client] = {}
        self.streams: dict[int, MapStream] = {}
        for one in nodes:
            client = self.clients[one.id] = Client()
            stream = self.streams[one.id] = self.hub.open(one.id)
            stream.attach(Follower(self.store, self.maps, client, stream, compress=True))

    async def put(self, number: int, **fields: object) -> None:
        async with self.store.writing() as writer:
            await writer.put(node(number, online=True, **fields), durable=False)

    def offer(self, number: int, patch: Patch = Patch.ENDPOINTS) -> None:
        for stream in self.streams.values():
            stream.offer(patched(number, patch))


class Counted(FrameEncoder):
    """An encoder that counts what it compresses."""

    made = 0

    def encode(self, json: bytes, *, compress: bool) -> bytes:
        type(self).made += 1
        return super().encode(json, compress=compress)


@pytest.mark.parametrize("size", [3, 60])
async def test_a_change_is_encoded_and_compressed_once_for_however_many(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "FrameEncoder", Counted)
    mesh = Mesh(size)
    Counted.made = 0
    running = asyncio.create_task(mesh.hub.run())
    await mesh.put(1, endpoints=("192.0.2.1:1",))
    await eventually(lambda: all(client.frames for number, client in mesh.clients.items() if number != 1))
    running.cancel()
    assert Counted.made == 1
    assert mesh.clients[1].frames == []
    sent = {id(frame) for client in mesh.clients.values() for frame in client.frames}
    assert len(sent) == 1
    [message] = mesh.clients[2].messages
    assert [patch.endpoints for patch in message.peers_changed_patch or ()] == [("192.0.2.1:1",)]


async def test_first_maps_describe_a_node_once_and_after_a_change_only_that_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    described: list[int] = []
    whole = Descriptions.describe

    def describe(self: Descriptions, known: object, one: object, now: object) -> object:
        described.append(one.id)  # type: ignore[attr-defined]
        return whole(self, known, one, now)  # type: ignore[arg-type]

    monkeypatch.setattr(Descriptions, "describe", describe)
    mesh = Mesh(30)
    for number in range(1, 11):
        await mesh.maps.full(mesh.store.snapshot.nodes[number], compress=True)
    # Each once for all, and each receiver for itself.
    assert len(described) == 30 + 10
    described.clear()
    await mesh.put(7, endpoints=("192.0.2.1:1",))
    await mesh.maps.full(mesh.store.snapshot.nodes[3], compress=True)
    assert sorted(described) == [3, 7]


async def test_a_slow_receiver_is_sent_one_message_with_the_newest_values() -> None:
    mesh = Mesh(2)
    slow = mesh.clients[2]
    slow.busy = True
    for port in (1, 2, 3):
        await mesh.put(1, endpoints=(f"192.0.2.1:{port}",))
        mesh.offer(1)
    mesh.offer(1, Patch.ONLINE)
    assert slow.frames == []
    slow.becomes_idle()
    [message] = slow.messages
    [patch] = message.peers_changed_patch or ()
    assert (patch.endpoints, patch.online) == (("192.0.2.1:3",), True)


async def test_a_message_that_cannot_be_made_for_one_ends_that_stream_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mesh = Mesh(3)

    broken = Follower(mesh.store, mesh.maps, BrokenClient(), mesh.streams[2], compress=True)
    mesh.streams[2].attach(broken)
    mesh.offer(1)
    assert mesh.streams[2].closed
    assert not mesh.streams[3].closed
    assert len(mesh.clients[3].frames) == 1
    assert "change not told" in caplog.text


async def test_what_happened_before_a_first_map_is_not_told_again_after_it() -> None:
    hub = Hub()
    stream = hub.open(1)
    stream.offer(patched(2, Patch.ONLINE))
    stream.forget_pending()
    mesh = Mesh(2)
    stream.attach(Follower(mesh.store, mesh.maps, mesh.clients[1], stream, compress=True))
    assert mesh.clients[1].frames == []


async def test_a_silent_stream_is_kept_alive_with_the_same_bytes_and_a_busy_one_is_left_alone() -> None:
    mesh = Mesh(2)
    now = asyncio.get_running_loop().time()
    long = KEEP_ALIVE_SECONDS + KEEP_ALIVE_JITTER_SECONDS + 1
    mesh.clients[2].busy = True
    for stream in mesh.streams.values():
        stream.keep_alive(now)
        stream.keep_alive(now + long)
        stream.keep_alive(now + long + 1)
        stream.keep_alive(now + 2 * long)
    first, second = mesh.clients[1].frames
    assert first is second
    assert mesh.clients[2].frames == []


async def test_a_connected_node_costs_the_hub_no_task() -> None:
    before = len(asyncio.all_tasks())
    mesh = Mesh(50)
    mesh.offer(1)
    assert len(asyncio.all_tasks()) == before


async def test_descriptions_of_deleted_nodes_are_given_up() -> None:
    mesh = Mesh(2)
    descriptions = mesh.maps._builder._descriptions
    for number in range(3, 60):
        await mesh.put(number)
        await mesh.maps.full(mesh.store.snapshot.nodes[1], compress=True)
        async with mesh.store.writing() as writer:
            await writer.remove(mesh.store.snapshot.nodes[number], NOW)
    assert len(descriptions._known) <= 8
