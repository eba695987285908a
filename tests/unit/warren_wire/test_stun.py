"""STUN: the bytes that stock relays and clients exchange, and what is refused."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire import stun
from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError

TXID = bytes(range(1, 13))
REQUEST = bytes.fromhex(
    "000100142112a4420102030405060708090a0b0c 802200087461696c6e6f6465 80280004b32c370f".replace(" ", "")
)
RESPONSES = [
    ("203.0.113.7:41641", "0101000c2112a4420102030405060708090a0b0c00200008000183bbea12d545"),
    (
        "[2001:db8::7]:41641",
        "010100182112a4420102030405060708090a0b0c00200014000283bb0113a9fa0102030405060708090a0b0b",
    ),
]

addresses = st.builds(AddrPort.from_wire18, st.binary(min_size=18, max_size=18))


def test_a_request_is_the_one_stock_relays_answer() -> None:
    assert stun.binding_request(TXID) == REQUEST
    assert stun.parse_binding_request(REQUEST) == TXID


@pytest.mark.parametrize(("address", "text"), RESPONSES)
def test_a_response_names_the_address_seen(address: str, text: str) -> None:
    data = bytes.fromhex(text)
    assert stun.binding_response(TXID, AddrPort.parse(address)) == data
    assert stun.parse_binding_response(data) == (TXID, AddrPort.parse(address))
    assert stun.parse_binding_response(data + b"more") == (TXID, AddrPort.parse(address))


def test_an_ipv4_address_mapped_into_ipv6_is_unmapped() -> None:
    mapped = AddrPort(IPv6Address("::ffff:203.0.113.7"), 41641)
    data = stun.binding_response(TXID, mapped)
    assert len(data) == 44
    assert stun.parse_binding_response(data)[1] == AddrPort(IPv4Address("203.0.113.7"), 41641)


def test_a_plain_mapped_address_counts_only_without_a_masked_one() -> None:
    plain = bytes.fromhex("00010008" + "0001a2a9" + "c0000207")
    masked = bytes.fromhex(RESPONSES[0][1])[20:]
    head = bytes.fromhex("0101") + b"%c%c" + bytes.fromhex("2112a442") + TXID
    only_plain = head % (0, len(plain)) + plain
    assert stun.parse_binding_response(only_plain)[1] == AddrPort.parse("192.0.2.7:41641")
    both = head % (0, len(plain + masked)) + plain + masked
    assert stun.parse_binding_response(both)[1] == AddrPort.parse("203.0.113.7:41641")


def test_a_request_without_attributes_is_answered_too() -> None:
    assert stun.parse_binding_request(bytes.fromhex("000100002112a442") + TXID) == TXID


@pytest.mark.parametrize("length", range(40))
def test_a_request_cut_short_is_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        stun.parse_binding_request(REQUEST[:length])


@pytest.mark.parametrize("text", [text for _, text in RESPONSES])
def test_a_response_cut_short_is_refused(text: str) -> None:
    data = bytes.fromhex(text)
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            stun.parse_binding_response(data[:length])


@pytest.mark.parametrize("position", [*range(32), *range(34, 40)])
def test_a_changed_request_has_a_wrong_fingerprint(position: int) -> None:
    """All but the type of the fingerprint itself, without which there is none to check."""
    changed = bytearray(REQUEST)
    changed[position] ^= 1
    with pytest.raises(DecodeError):
        stun.parse_binding_request(bytes(changed))


def test_wireguard_is_not_stun() -> None:
    assert stun.looks_like_stun(REQUEST)
    assert not stun.looks_like_stun(b"\x01\x00\x00\x00" + REQUEST[4:8] + bytes(140))


@given(st.binary(min_size=12, max_size=12), addresses)
def test_what_is_written_is_read(txid: bytes, address: AddrPort) -> None:
    assert stun.parse_binding_response(stun.binding_response(txid, address)) == (txid, address)
    assert stun.parse_binding_request(stun.binding_request(txid)) == txid


@given(st.binary(max_size=80), st.sampled_from([b"", REQUEST[:20], bytes.fromhex(RESPONSES[0][1])[:24]]))
def test_any_bytes_give_a_value_or_the_declared_error(tail: bytes, head: bytes) -> None:
    for parse in (stun.parse_binding_request, stun.parse_binding_response):
        try:
            parse(head + tail)
        except DecodeError:
            pass
