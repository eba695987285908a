"""Where packets go, what is dropped, and who hears about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire import disco
from warren_wire.derp.frames import FrameReader, FrameType, PeerGoneReason
from warren_wire.derp.queues import FairQueue
from warren_wire.derp.router import MAX_CONNECTIONS_PER_KEY, ConnectionId, DropReason, Router
from warren_wire.errors import LocalProtocolError
from warren_wire.keys import NodePublic

A, B, C = (NodePublic(bytes((number,)) * 32) for number in (1, 2, 3))
DISCO = disco.MAGIC + bytes(100)


def join(router: Router, key: NodePublic) -> ConnectionId:
    return router.connect(key)[0]


def received(router: Router, identity: ConnectionId, max_bytes: int = 1 << 30) -> list[tuple[int, bytes]]:
    return FrameReader().feed(router.take(identity, max_bytes))


def packet(source: NodePublic, data: bytes) -> tuple[int, bytes]:
    return (FrameType.RECV_PACKET, source.raw + data)


def gone(key: NodePublic, reason: PeerGoneReason) -> tuple[int, bytes]:
    return (FrameType.PEER_GONE, key.raw + bytes((reason,)))


def test_a_packet_goes_to_its_destination_with_its_source() -> None:
    router = Router()
    a, b = join(router, A), join(router, B)
    router.forward(a, B.raw, b"one", 0.0)
    router.forward(a, B.raw, b"two", 0.0)
    router.forward(b, B.raw, b"to myself", 0.0)
    assert router.take_due() == [b]
    assert router.take_due() == []
    assert received(router, b) == [packet(A, b"one"), packet(A, b"two"), packet(B, b"to myself")]
    assert not router.has_waiting(b)
    assert (router.forwarded_packets, router.queued_bytes) == (3, 0)


def test_discovery_overtakes_bulk() -> None:
    router = Router()
    a, b = join(router, A), join(router, B)
    router.forward(a, B.raw, b"bulk", 0.0)
    router.forward(a, B.raw, DISCO, 0.0)
    assert received(router, b) == [packet(A, DISCO), packet(A, b"bulk")]


def test_a_full_queue_drops_its_oldest_packets() -> None:
    router = Router(bulk_bytes=1000, disco_bytes=1000)
    a, b = join(router, A), join(router, B)
    for number in range(10):
        router.forward(a, B.raw, bytes((number,)) * 263, 0.0)
    router.forward(a, B.raw, DISCO, 0.0)
    assert router.drops[DropReason.QUEUE_FULL] == 7
    assert router.queued_bytes == 3 * 300 + 37 + len(DISCO)
    assert [payload[-1] for _, payload in received(router, b)] == [0, 7, 8, 9]
    for _ in range(20):
        router.forward(a, B.raw, DISCO, 0.0)
    assert router.drops[DropReason.DISCO_QUEUE_FULL] == 20 - 1000 // (37 + len(DISCO))


def test_all_queues_together_are_bounded() -> None:
    router = Router(max_queued_bytes=1000)
    a, b, c = (join(router, key) for key in (A, B, C))
    router.forward(a, B.raw, bytes(900), 0.0)
    router.forward(a, C.raw, bytes(900), 0.0)
    assert router.drops[DropReason.MEMORY] == 1
    assert received(router, c) == []
    received(router, b)
    router.forward(a, C.raw, bytes(900), 0.0)
    assert len(received(router, c)) == 1


def test_a_receiver_takes_as_much_as_it_can() -> None:
    router = Router()
    a, b = join(router, A), join(router, B)
    for number in range(10):
        router.forward(a, B.raw, bytes((number,)) * 63, 0.0)
    assert len(received(router, b, 250)) == 3
    assert router.has_waiting(b)
    assert len(received(router, b)) == 7


def test_an_unknown_destination_is_told_for_discovery_only_and_not_too_often() -> None:
    router = Router()
    a = join(router, A)
    router.forward(a, B.raw, b"bulk", 0.0)
    assert received(router, a) == []
    keys = [NodePublic(bytes((number,)) * 32) for number in range(10, 20)]
    for key in keys:
        router.forward(a, key.raw, DISCO, 0.0)
    assert received(router, a) == [gone(key, PeerGoneReason.NOT_HERE) for key in keys[:3]]
    router.forward(a, B.raw, DISCO, 0.9)
    assert received(router, a) == []
    router.forward(a, B.raw, DISCO, 1.1)
    assert received(router, a) == [gone(B, PeerGoneReason.NOT_HERE)]
    assert router.drops[DropReason.UNKNOWN_DESTINATION] == 13
    assert router.peer_gone[PeerGoneReason.NOT_HERE] == 4


def test_receivers_hear_when_their_sender_leaves() -> None:
    router = Router()
    a, b, c = (join(router, key) for key in (A, B, C))
    router.forward(a, B.raw, b"x", 0.0)
    received(router, b)
    router.disconnect(a)
    assert router.take_due() == [b]
    assert received(router, b) == [gone(A, PeerGoneReason.DISCONNECTED)]
    assert received(router, c) == []


def test_a_receiver_that_came_back_hears_nothing_of_its_former_senders() -> None:
    router = Router()
    a, b = join(router, A), join(router, B)
    router.forward(a, B.raw, b"x", 0.0)
    router.disconnect(b)
    assert router.drops[DropReason.DESTINATION_GONE] == 1
    b = join(router, B)
    router.disconnect(a)
    assert received(router, b) == []


def test_of_several_connections_the_newest_then_the_last_writer_gets_the_traffic() -> None:
    router = Router()
    a, first, second = join(router, A), join(router, B), join(router, B)
    assert (router.clients, router.connections) == (2, 3)
    router.forward(a, B.raw, b"1", 0.0)
    assert received(router, second) == [packet(A, b"1")]
    router.note_active(first)
    router.forward(a, B.raw, b"2", 0.0)
    assert received(router, first) == [packet(A, b"2")]
    router.disconnect(first)
    router.forward(a, B.raw, b"3", 0.0)
    assert received(router, second) == [packet(A, b"3")]


def test_a_sender_is_gone_only_with_its_last_connection() -> None:
    router = Router()
    a, first, second = join(router, A), join(router, B), join(router, B)
    router.forward(first, A.raw, b"x", 0.0)
    received(router, a)
    router.disconnect(first)
    assert received(router, a) == []
    assert router.is_connected(B)
    router.disconnect(second)
    assert received(router, a) == [gone(B, PeerGoneReason.DISCONNECTED)]
    assert not router.is_connected(B)


def test_too_many_connections_of_one_key_end_the_oldest() -> None:
    router = Router()
    first = join(router, A)
    for _ in range(MAX_CONNECTIONS_PER_KEY - 1):
        assert router.connect(A)[1] == []
    assert router.connect(A)[1] == [first]


def test_home_clients_are_counted() -> None:
    router = Router()
    a, b = join(router, A), join(router, B)
    for identity, preferred in ((a, True), (a, True), (b, True), (b, False)):
        router.note_preferred(identity, preferred)
    assert router.home_clients == 1
    router.disconnect(a)
    router.disconnect(a)
    assert router.home_clients == 0


def test_an_ended_connection_cannot_be_used() -> None:
    router = Router()
    a = join(router, A)
    router.disconnect(a)
    with pytest.raises(LocalProtocolError):
        router.forward(a, B.raw, b"", 0.0)
    with pytest.raises(LocalProtocolError):
        router.take(a, 1)


def test_a_packet_larger_than_the_queue_is_kept_alone() -> None:
    queue = FairQueue(100)
    assert queue.put(b"home", [bytes(50)], 50) == 0
    assert queue.put(b"home", [bytes(500)], 500) == 1
    assert queue.take(1000) == [bytes(500)]
    assert queue.size_bytes == 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["connect", "disconnect", "forward", "take"]),
        st.integers(0, 5),
        st.integers(0, 5),
        st.binary(max_size=50),
    ),
    max_size=60,
)


@given(steps)
def test_the_books_always_balance(script: list[tuple[str, int, int, bytes]]) -> None:
    """Every packet is delivered or dropped with a reason, and nothing is left when all have gone."""
    router = Router(bulk_bytes=200, disco_bytes=200, max_queued_bytes=600)
    alive: list[ConnectionId] = []
    offered = delivered = 0
    for action, one, other, data in script:
        if action == "connect":
            alive.append(join(router, NodePublic(bytes((one,)) * 32)))
        elif not alive:
            continue
        elif action == "disconnect":
            router.disconnect(alive.pop(one % len(alive)))
        elif action == "forward":
            offered += 1
            router.forward(alive[one % len(alive)], bytes((other,)) * 32, data, float(offered))
        else:
            found = FrameReader().feed(router.take(alive[one % len(alive)], 100))
            delivered += sum(kind == FrameType.RECV_PACKET for kind, _ in found)
    for identity in alive:
        router.disconnect(identity)
    assert offered == delivered + router.drops.total()
    assert delivered == router.forwarded_packets
    assert (router.queued_bytes, router.clients, router.connections, router.take_due()) == (0, 0, 0, [])
