"""Endpoints and prefixes in text and on the wire."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire.addresses import AddrPort, parse_address, parse_prefix
from warren_wire.errors import DecodeError

ENDPOINTS = [
    ("192.0.2.1:41641", "00000000000000000000ffffc0000201a2a9"),
    ("[2001:db8::1]:65535", "20010db8000000000000000000000001ffff"),
    ("0.0.0.0:0", "00000000000000000000ffff000000000000"),
    ("[::1]:3478", "000000000000000000000000000000010d96"),
]


@pytest.mark.parametrize(("text", "wire"), ENDPOINTS)
def test_endpoint(text: str, wire: str) -> None:
    endpoint = AddrPort.parse(text)
    assert str(endpoint) == text
    assert endpoint.to_wire18().hex() == wire
    assert AddrPort.from_wire18(bytes.fromhex(wire)) == endpoint


def test_a_mapped_address_is_an_ipv4_address() -> None:
    assert AddrPort.parse("[::ffff:192.0.2.1]:1") == AddrPort(IPv4Address("192.0.2.1"), 1)


@pytest.mark.parametrize("length", [*range(18), 19])
def test_an_endpoint_has_eighteen_bytes(length: int) -> None:
    with pytest.raises(DecodeError):
        AddrPort.from_wire18(bytes(length))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "192.0.2.1:-1",
        "192.0.2.1:+1",
        "192.0.2.1: 1",
        "192.0.2.1:١",
        "192.0.2.1:000001",
        "[192.0.2.1]:1",
        "2001:db8::1:1",
        "[2001:db8::1:1",
        "[fe80::1%eth0]:1",
        "web:1",
        "1:1",
    ],
)
def test_other_text_is_no_endpoint(text: str) -> None:
    with pytest.raises(DecodeError):
        AddrPort.parse(text)


def test_order_is_by_family_address_and_port() -> None:
    texts = ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "[::1]:1", "[2001:db8::1]:1"]
    endpoints = [AddrPort.parse(text) for text in texts]
    assert sorted([*endpoints[2:], *endpoints[:2]]) == endpoints
    assert endpoints[0] < endpoints[1] <= endpoints[1]
    assert endpoints[4] > endpoints[3] >= endpoints[3]


addresses = st.ip_addresses().map(lambda ip: getattr(ip, "ipv4_mapped", None) or ip)


@given(addresses, st.integers(0, 65535))
def test_round_trips(ip: IPv4Address | IPv6Address, port: int) -> None:
    endpoint = AddrPort(ip, port)
    assert AddrPort.parse(str(endpoint)) == endpoint
    assert AddrPort.from_wire18(endpoint.to_wire18()) == endpoint
    assert hash(AddrPort.parse(str(endpoint))) == hash(endpoint)


@given(st.text(max_size=60))
def test_any_text_is_an_endpoint_or_refused(text: str) -> None:
    for parse in (AddrPort.parse, parse_prefix, parse_address):
        try:
            parse(text)
        except DecodeError:
            pass


def test_prefixes_have_no_host_bits() -> None:
    assert str(parse_prefix("10.0.0.0/8")) == "10.0.0.0/8"
    assert str(parse_prefix("100.64.0.1")) == "100.64.0.1/32"
    for text in ("10.0.0.1/8", "10.0.0.0/33", "fe80::%eth0/64", "web", "10.0.0.0/255.0.0.1"):
        with pytest.raises(DecodeError):
            parse_prefix(text)


def test_addresses_have_no_zone() -> None:
    assert parse_address("fd7a:115c:a1e0::1") == IPv6Address("fd7a:115c:a1e0::1")
    for text in ("fe80::1%eth0", "10.0.0.0/8", ""):
        with pytest.raises(DecodeError):
            parse_address(text)
