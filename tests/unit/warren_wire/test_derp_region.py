"""Relays of one region and workers of one relay as one switchboard, without sockets.

home relay            away relay
worker 0 - worker 1   worker 2 - worker 3        each worker has a link to one worker of the other relay
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from warren_wire import disco
from warren_wire.derp import frames
from warren_wire.derp.frames import FrameReader, FrameType, PeerGoneReason
from warren_wire.derp.queues import FairQueue
from warren_wire.derp.router import ConnectionId, DropReason, Kind, Router
from warren_wire.keys import NodePublic

A, B, C = (NodePublic(bytes((number,)) * 32) for number in (1, 2, 3))
RELAY = NodePublic(b"\x99" * 32)


@dataclass
class Link:
    """`near` has called `far`."""

    near: Router
    far: Router
    kind: Kind
    ours: ConnectionId = field(init=False)
    theirs: ConnectionId = field(init=False)

    def __post_init__(self) -> None:
        self.ours = self.near.connect_relay(RELAY, self.kind)
        self.theirs = self.far.connect_relay(RELAY, self.kind)
        self.far.watch(self.theirs)

    def carry(self) -> bool:
        """Move what waits, both ways; whether there was anything."""
        notices = FrameReader().feed(self.far.take(self.theirs, 1 << 20))
        packets = FrameReader().feed(self.near.take(self.ours, 1 << 20))
        for kind, payload in notices:
            if kind == FrameType.PEER_PRESENT:
                self.near.link_present(self.ours, frames.parse_peer_present(payload)[0])
            else:
                assert kind == FrameType.PEER_GONE
                self.near.link_gone(self.ours, payload[:32])
        for kind, payload in packets:
            assert kind == FrameType.FORWARD_PACKET
            self.far.deliver(self.theirs, *frames.split_forward(payload), 0.0)
        return bool(notices or packets)

    def cut(self) -> None:
        self.near.disconnect(self.ours)
        self.far.disconnect(self.theirs)


class Region:
    """Two relays of two workers; every link between the relays happens to meet a first worker."""

    def __init__(self) -> None:
        self.workers = [Router() for _ in range(4)]
        w = self.workers
        siblings = [(0, 1), (1, 0), (2, 3), (3, 2)]
        self.links = [Link(w[a], w[b], Kind.SIBLING) for a, b in siblings]
        self.abroad = [Link(w[a], w[b], Kind.REGION) for a, b in [(0, 2), (1, 2), (2, 0), (3, 0)]]

    def settle(self) -> None:
        while any(link.carry() for link in (*self.links, *self.abroad)):
            pass


def received(router: Router, identity: ConnectionId) -> list[tuple[int, bytes]]:
    return FrameReader().feed(router.take(identity, 1 << 20))


@pytest.mark.parametrize("near", range(4))
@pytest.mark.parametrize("far", range(4))
def test_every_client_reaches_every_other_wherever_the_two_are(near: int, far: int) -> None:
    region = Region()
    a, _ = region.workers[near].connect(A)
    b, _ = region.workers[far].connect(B)
    region.settle()
    region.workers[near].forward(a, B.raw, b"hello", 0.0)
    region.settle()
    assert received(region.workers[far], b) == [(FrameType.RECV_PACKET, A.raw + b"hello")]
    region.workers[far].forward(b, A.raw, disco.MAGIC, 0.0)
    region.settle()
    assert received(region.workers[near], a) == [(FrameType.RECV_PACKET, B.raw + disco.MAGIC)]
    assert sum(worker.drops.total() for worker in region.workers) == 0


def test_a_receiver_on_another_relay_hears_when_its_sender_leaves() -> None:
    region = Region()
    a, _ = region.workers[0].connect(A)
    b, _ = region.workers[3].connect(B)
    region.settle()
    region.workers[0].forward(a, B.raw, b"hello", 0.0)
    region.settle()
    received(region.workers[3], b)
    region.workers[0].disconnect(a)
    region.settle()
    assert received(region.workers[3], b) == [
        (FrameType.PEER_GONE, A.raw + bytes((PeerGoneReason.DISCONNECTED,)))
    ]
    assert [worker.remote_clients for worker in region.workers] == [1, 1, 1, 0]


def test_a_lost_link_takes_its_clients_with_it() -> None:
    region = Region()
    a, _ = region.workers[0].connect(A)
    region.workers[2].connect(B)
    region.settle()
    region.abroad[0].cut()
    region.workers[0].forward(a, B.raw, b"lost", 0.0)
    assert region.workers[0].drops[DropReason.UNKNOWN_DESTINATION] == 1
    assert region.workers[0].remote_clients == 0


def test_a_client_here_wins_over_the_same_key_elsewhere() -> None:
    region = Region()
    a, _ = region.workers[0].connect(A)
    here, _ = region.workers[0].connect(B)
    region.workers[2].connect(B)
    region.settle()
    region.workers[0].forward(a, B.raw, b"near", 0.0)
    assert received(region.workers[0], here) == [(FrameType.RECV_PACKET, A.raw + b"near")]
    region.workers[0].disconnect(here)
    region.settle()
    region.workers[0].forward(a, B.raw, b"far", 0.0)
    assert region.workers[0].forwarded_out == 1


@pytest.mark.parametrize("kind", [Kind.SIBLING, Kind.REGION])
def test_a_packet_never_goes_on_to_where_it_may_have_come_from(kind: Kind) -> None:
    router = Router()
    came_by, leads_on = router.connect_relay(RELAY, kind), router.connect_relay(RELAY, kind)
    router.link_present(leads_on, B.raw)
    router.deliver(came_by, A.raw, B.raw, b"again?", 0.0)
    if kind is Kind.SIBLING:
        assert router.drops[DropReason.UNKNOWN_FORWARDED] == 1
    assert not router.has_waiting(leads_on)


def test_watchers_hear_the_last_state_once() -> None:
    router = Router()
    watcher = router.connect_relay(RELAY, Kind.REGION)
    router.connect(A)
    router.watch(watcher)
    for _ in range(100):
        router.disconnect(router.connect(B)[0])
    router.connect(C)
    kinds = {payload[:32]: kind for kind, payload in received(router, watcher)}
    assert kinds == {A.raw: FrameType.PEER_PRESENT, B.raw: FrameType.PEER_GONE, C.raw: FrameType.PEER_PRESENT}
    assert (router.watchers, router.clients) == (1, 2)


def test_a_flood_costs_only_the_sender_who_floods() -> None:
    queue = FairQueue(10_000)
    for number in range(10):
        queue.put(b"quiet", [bytes((number,)) * 100], 100)
    dropped = sum(queue.put(b"loud", [bytes(1000)], 1000) for _ in range(100))
    assert dropped == 91
    taken = queue.take(1 << 20)
    assert [frame[0] for frame in taken if len(frame) == 100] == list(range(10))


def test_senders_take_turns_when_not_everything_fits() -> None:
    queue = FairQueue(1 << 20)
    for _ in range(100):
        queue.put(b"loud", [b"l" * 1000], 1000)
    for _ in range(5):
        queue.put(b"quiet", [b"q" * 1000], 1000)
    first = queue.take(12_000)
    assert sum(frame[0] == ord("q") for frame in first) == 5
    assert len(queue) == 105 - len(first)
