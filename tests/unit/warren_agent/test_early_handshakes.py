"""A handshake that comes before the map that names its sender is kept for a moment."""

from __future__ import annotations

from warren_agent.paths.early_handshakes import KEPT_SECONDS, MAX_PEERS, EarlyHandshakes
from warren_wire.keys import NodePublic

INITIATION = b"\x01\x00\x00\x00" + bytes(144)


def key(number: int) -> NodePublic:
    return NodePublic(number.to_bytes(32, "big"))


def test_the_last_initiation_of_a_peer_is_given_once_and_only_for_a_moment() -> None:
    early = EarlyHandshakes()
    newer = INITIATION[:-1] + b"\x07"
    assert early.keep(key(1), INITIATION, 10.0)
    assert early.keep(key(1), newer, 11.0)
    assert early.take(key(1), 12.0) == newer
    assert early.take(key(1), 12.0) is None
    early.keep(key(2), INITIATION, 10.0)
    assert early.take(key(2), 10.1 + KEPT_SECONDS) is None


def test_nothing_but_initiations_is_kept() -> None:
    early = EarlyHandshakes()
    for packet in (
        b"",
        INITIATION[:-1],
        INITIATION + b"\x00",
        b"\x02" + INITIATION[1:],
        b"\x04" + bytes(147),
    ):
        assert not early.keep(key(1), packet, 0.0)
    assert len(early) == 0


def test_strangers_cannot_make_it_grow() -> None:
    early = EarlyHandshakes()
    for number in range(3 * MAX_PEERS):
        early.keep(key(number), INITIATION, 0.0)
    assert len(early) == MAX_PEERS
    assert early.take(key(3 * MAX_PEERS - 1), 0.0) == INITIATION
