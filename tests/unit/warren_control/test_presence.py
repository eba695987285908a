"""What the passing of time does to nodes; the clock is an argument."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from support.control_records import NOW, node, snapshot
from support.memory_records import MemoryRecords
from warren_control.changes import Change, Patch, patched, whole_and_self
from warren_control.hub import Hub
from warren_control.model import REMOVED_KEPT, Node
from warren_control.presence import EPHEMERAL_INACTIVITY, OFFLINE_GRACE, SWEEP_EVERY, Presence
from warren_control.routes import parse_prefixes
from warren_control.store import Store
from warren_wire.control.messages import Hostinfo


class World:
    """A store with its presence, and what was published."""

    def __init__(self, *nodes: Node) -> None:
        self.now = NOW
        self.records = MemoryRecords()
        self.published: list[Change] = []
        self.hub = Hub()
        self.store = Store(self.records, snapshot(*nodes), self._publish)
        self.presence = Presence(self.store, self.hub, self._publish, self._clock)

    def _publish(self, change: Change) -> None:
        if not change.empty:
            self.published.append(change)

    def _clock(self) -> datetime:
        return self.now

    async def after(self, time: timedelta) -> None:
        self.now += time
        await self.presence.look(self.now)

    def node(self, number: int = 1) -> Node | None:
        return self.store.snapshot.nodes.get(number)


async def test_a_node_goes_offline_after_the_grace_with_the_time_it_left() -> None:
    world = World(node(1, online=True))
    world.presence.left(1)
    await world.after(OFFLINE_GRACE / 2)
    assert world.published == []
    await world.after(OFFLINE_GRACE / 2)
    assert world.published == [patched(1, Patch.ONLINE)]
    assert (gone := world.node()) is not None
    assert (gone.online, gone.last_seen) == (False, NOW)


async def test_presence_is_no_durable_write() -> None:
    world = World(node(1, online=True))
    world.presence.left(1)
    await world.after(OFFLINE_GRACE)
    assert world.records.writes == []
    await world.store.flush()
    assert [[stored.last_seen for stored in write.nodes] for write in world.records.writes] == [[NOW]]


async def test_a_node_that_comes_back_in_time_was_never_away() -> None:
    world = World(node(1, online=True))
    world.presence.left(1)
    world.hub.open(1)
    world.presence.arrived(1)
    await world.after(OFFLINE_GRACE * 2)
    assert world.published == []


async def test_a_router_that_leaves_hands_its_routes_over() -> None:
    route = parse_prefixes(["10.1.0.0/16"])
    one = node(1, online=True, advertised_routes=route, approved_routes=route)
    two = node(2, online=True, advertised_routes=route, approved_routes=route)
    world = World(one, two)
    world.presence.left(1)
    await world.after(OFFLINE_GRACE)
    assert world.store.snapshot.primaries == {route[0]: 2}
    assert world.published == [replace(whole_and_self(1, 2), filters=frozenset({1, 2}))]


async def test_an_expiry_is_announced_when_it_comes() -> None:
    world = World(node(1, expiry=NOW + timedelta(seconds=5)))
    await world.after(timedelta(seconds=4))
    assert world.published == []
    await world.after(timedelta(seconds=1))
    assert world.published == [whole_and_self(1)]
    await world.after(timedelta(seconds=1))
    assert len(world.published) == 1


async def test_an_ephemeral_node_that_stays_away_is_removed() -> None:
    world = World(node(1, ephemeral=True, last_seen=NOW), node(2, last_seen=NOW))
    await world.after(EPHEMERAL_INACTIVITY - timedelta(seconds=1))
    assert world.node(1) is not None
    await world.after(timedelta(seconds=1))
    assert world.node(1) is None
    assert world.node(2) is not None
    assert world.published == [replace(whole_and_self(1), filters=frozenset({1}))]


async def test_an_ephemeral_node_that_never_polled_is_removed_too_and_a_connected_one_is_not() -> None:
    world = World(node(1, ephemeral=True), node(2, ephemeral=True))
    world.hub.open(2)
    await world.after(EPHEMERAL_INACTIVITY)
    assert world.node(1) is None
    assert world.node(2) is not None


async def test_a_restart_gives_ephemeral_nodes_their_time_again() -> None:
    world = World(node(1, ephemeral=True, last_seen=NOW - timedelta(days=1)))
    await world.after(EPHEMERAL_INACTIVITY / 2)
    assert world.node(1) is not None


async def test_a_deleted_node_is_kept_for_a_month_with_little_but_its_keys_and_then_forgotten() -> None:
    rich = Hostinfo(hostname="node1", os="linux", os_version="6.1", extra={"Distro": "debian"})
    world = World(node(1, hostinfo=rich, endpoints=("192.0.2.1:1",)), node(2))
    async with world.store.writing() as writer:
        await writer.remove(node(1, hostinfo=rich, endpoints=("192.0.2.1:1",)), world.now)
    [removed] = world.store.snapshot.removed.values()
    assert removed.node_key == node(1).node_key
    assert removed.hostinfo == Hostinfo(hostname="node1", os="linux")
    assert removed.endpoints == ()
    await world.after(REMOVED_KEPT - SWEEP_EVERY)
    assert world.store.snapshot.removed
    await world.after(SWEEP_EVERY)
    assert not world.store.snapshot.removed
    assert world.records.writes[-1].dropped_nodes == [1]
    assert world.node(2) is not None
