"""Bytes of TSMP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire.errors import DecodeError
from warren_wire.keys import DiscoPublic
from warren_wire.tsmp import DiscoAdvert, Rejected, TsmpMessage, TsmpPing, TsmpPong, encode, parse

KEY = DiscoPublic(bytes(range(32)))
TABLE: list[tuple[TsmpMessage, str]] = [
    (TsmpPing(b"12345678"), "70 3132333435363738"),
    (TsmpPong(b"12345678", 0x1234), "6f 3132333435363738 1234"),
    (DiscoAdvert(KEY), "61" + bytes(range(32)).hex()),
    (Rejected(6, "A", 443, 50000), "21 06 41 01bb c350 00"),
    (Rejected(17, "W", 1, 2, maybe_broken=True), "21 11 57 0001 0002 01"),
]
SHORTEST = {0x70: 9, 0x6F: 9, 0x61: 33, 0x21: 7}


@pytest.mark.parametrize(("message", "text"), TABLE)
def test_messages_are_these_bytes(message: TsmpMessage, text: str) -> None:
    data = bytes.fromhex(text)
    assert encode(message) == data
    assert parse(data) == message
    assert parse(data + b"more") == message


@pytest.mark.parametrize(("message", "text"), TABLE)
def test_every_cut_is_refused_or_means_less(message: TsmpMessage, text: str) -> None:
    data = bytes.fromhex(text)
    for length in range(len(data)):
        if length < SHORTEST[data[0]]:
            with pytest.raises(DecodeError):
                parse(data[:length])
        else:
            assert type(parse(data[:length])) is type(message)


@given(st.binary(min_size=1, max_size=64))
def test_anything_is_read_refused_or_unknown(data: bytes) -> None:
    try:
        message = parse(data)
    except DecodeError:
        return
    assert (message is None) == (data[0] not in SHORTEST)
    if message is not None:
        assert encode(message)[: SHORTEST[data[0]]] == data[: SHORTEST[data[0]]]


def test_a_ping_has_eight_bytes() -> None:
    with pytest.raises(ValueError, match="8"):
        encode(TsmpPing(b"short"))
