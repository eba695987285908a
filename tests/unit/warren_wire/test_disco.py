"""Disco: a packet known from stock, round trips, and what grows or is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire import disco
from warren_wire.addresses import AddrPort
from warren_wire.crypto import SharedBox
from warren_wire.errors import AuthenticationError, DecodeError
from warren_wire.keys import DiscoPrivate, NodePrivate, NodePublic

A = DiscoPrivate.from_seed(b"\x11" * 32)
B = DiscoPrivate.from_seed(b"\x22" * 32)
NODE = NodePrivate.from_seed(b"\x33" * 32)
TXID = bytes(range(1, 13))
NONCE = bytes(range(0x18))
A_TO_B = SharedBox(A.raw, B.public.raw)
B_FROM_A = SharedBox(B.raw, A.public.raw)
PACKET = bytes.fromhex(
    "5453f09f92ac7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"
    "000102030405060708090a0b0c0d0e0f1011121314151617"
    "0379216e85609b47e1d2198899dddfbc5a8c18945d97ffce3da53ca6da5d09b7"
    "a20c26534c0c1019dbe97e1550395116df47dbc9a704f0a5990f974c383e"
)
ENDPOINTS = (AddrPort.parse("192.0.2.1:41641"), AddrPort.parse("[2001:db8::1]:41641"))

endpoints = st.builds(AddrPort.from_wire18, st.binary(min_size=18, max_size=18))
txids = st.binary(min_size=12, max_size=12)
messages = (
    st.builds(disco.Ping, txids)
    | st.builds(
        disco.Ping, txids, st.builds(NodePublic, st.binary(min_size=32, max_size=32)), st.integers(0, 1400)
    )
    | st.builds(disco.Pong, txids, endpoints)
    | st.builds(disco.CallMeMaybe, st.lists(endpoints, max_size=20).map(tuple))
)


def test_a_ping_is_the_packet_known_from_stock() -> None:
    ping = disco.Ping(TXID, NODE.public)
    packet = disco.seal(ping, A.public, A_TO_B, NONCE)
    assert packet == PACKET
    assert len(packet) == disco.PING_BYTES
    assert disco.looks_like_disco(packet)
    assert disco.sender_of(packet) == A.public
    assert disco.open_message(packet, B_FROM_A) == ping


TABLE = [
    ("ping of a very old client", disco.Ping(TXID), "0100" + TXID.hex()),
    ("padded ping", disco.Ping(TXID, NODE.public, 3), "0100" + TXID.hex() + NODE.public.raw.hex() + "000000"),
    (
        "pong to IPv4",
        disco.Pong(TXID, ENDPOINTS[0]),
        "0200" + TXID.hex() + "00000000000000000000ffffc0000201" + "a2a9",
    ),
    (
        "call me maybe",
        disco.CallMeMaybe(ENDPOINTS),
        "0300" + "00000000000000000000ffffc0000201a2a9" + "20010db8000000000000000000000001a2a9",
    ),
]


@pytest.mark.parametrize(("name", "message", "text"), TABLE, ids=[row[0] for row in TABLE])
def test_messages_have_their_bytes(name: str, message: disco.Message, text: str) -> None:
    assert disco.encode(message).hex() == text
    assert disco.parse(bytes.fromhex(text)) == message


def test_a_pong_has_its_length() -> None:
    assert len(disco.seal(disco.Pong(TXID, ENDPOINTS[0]), A.public, A_TO_B, NONCE)) == disco.PONG_BYTES


def test_bytes_after_a_pong_are_ignored() -> None:
    pong = disco.Pong(TXID, ENDPOINTS[1])
    assert disco.parse(disco.encode(pong) + b"grown") == pong


@pytest.mark.parametrize("text", ["ff00", "0400" + "00" * 72, "0101" + "00" * 44, "0201" + "00" * 30])
def test_unknown_types_and_versions_are_nothing(text: str) -> None:
    assert disco.parse(bytes.fromhex(text)) is None


@pytest.mark.parametrize("text", ["0300", "0300" + "00" * 17, "0301" + "00" * 18])
def test_a_call_me_maybe_not_understood_is_an_empty_one(text: str) -> None:
    assert disco.parse(bytes.fromhex(text)) == disco.CallMeMaybe(())


def test_an_endless_list_of_endpoints_is_bounded() -> None:
    message = disco.parse(b"\x03\x00" + ENDPOINTS[0].to_wire18() * 3000)
    assert isinstance(message, disco.CallMeMaybe)
    assert len(message.endpoints) == disco.MAX_ENDPOINTS


def test_messages_cut_short_are_refused() -> None:
    ping, pong = disco.encode(disco.Ping(TXID)), disco.encode(disco.Pong(TXID, ENDPOINTS[0]))
    for whole in (ping, pong):
        for length in range(len(whole)):
            with pytest.raises(DecodeError):
                disco.parse(whole[:length])


def test_a_packet_cut_short_or_changed_does_not_open() -> None:
    for length in range(len(PACKET)):
        with pytest.raises((DecodeError, AuthenticationError)):
            disco.open_message(PACKET[:length], B_FROM_A)
    for position in (38, 61, 62, 77, 78, 123):
        changed = bytearray(PACKET)
        changed[position] ^= 1
        with pytest.raises(AuthenticationError):
            disco.open_message(bytes(changed), B_FROM_A)


def test_wireguard_is_not_disco() -> None:
    assert not disco.looks_like_disco(b"\x04\x00\x00\x00" + bytes(92))
    with pytest.raises(DecodeError):
        disco.sender_of(b"\x04\x00\x00\x00" + bytes(92))


def test_padding_without_a_node_key_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError):
        disco.encode(disco.Ping(TXID, None, 32))


@given(messages, st.binary(min_size=24, max_size=24))
def test_what_is_sealed_is_opened(message: disco.Message, nonce: bytes) -> None:
    assert disco.open_message(disco.seal(message, A.public, A_TO_B, nonce), B_FROM_A) == message


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x01\x00", b"\x02\x00", b"\x03\x00"]))
def test_any_bytes_give_a_value_or_the_declared_error(tail: bytes, head: bytes) -> None:
    try:
        disco.parse(head + tail)
    except DecodeError:
        pass
    with pytest.raises((DecodeError, AuthenticationError)):
        disco.open_message(head + tail, B_FROM_A)
