"""PROXY headers: byte tables of both versions, every truncation, round trips, and what is refused."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire import proxy_protocol
from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError
from warren_wire.proxy_protocol import ProxyHeader

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
CLIENT_4, SERVER_4 = AddrPort.parse("203.0.113.7:54321"), AddrPort.parse("192.0.2.1:443")
CLIENT_6, SERVER_6 = AddrPort.parse("[2001:db8::7]:54321"), AddrPort.parse("[2001:db8::1]:443")
BODY_4 = bytes.fromhex("cb007107 c0000201 d431 01bb")
BODY_6 = bytes.fromhex("20010db8000000000000000000000007 20010db8000000000000000000000001 d431 01bb")

HEADERS = {
    b"PROXY TCP4 203.0.113.7 192.0.2.1 54321 443\r\n": (CLIENT_4, SERVER_4),
    b"PROXY TCP6 2001:db8::7 2001:db8::1 54321 443\r\n": (CLIENT_6, SERVER_6),
    b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:192.0.2.1 54321 443\r\n": (CLIENT_4, SERVER_4),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN ffff:f...f:ffff 1.2.3.4 any thing\r\n": (None, None),
    SIGNATURE + b"\x21\x11\x00\x0c" + BODY_4: (CLIENT_4, SERVER_4),
    SIGNATURE + b"\x21\x21\x00\x24" + BODY_6: (CLIENT_6, SERVER_6),
    # With extensions: ALPN "h2", then padding of one byte.
    SIGNATURE + b"\x21\x11\x00\x15" + BODY_4 + b"\x01\x00\x02h2\x04\x00\x01\x00": (CLIENT_4, SERVER_4),
    SIGNATURE + b"\x20\x00\x00\x00": (None, None),
    SIGNATURE + b"\x20\x11\x00\x0c" + BODY_4: (None, None),
    SIGNATURE + b"\x21\x00\x00\x00": (None, None),
    SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216): (None, None),
}

REFUSED = [
    b"",
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 54321\r\n",
    b"PROXY TCP4  203.0.113.7 192.0.2.1 54321 443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 54321 443 \r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
    b"PROXY TCP4 203.0.113.7 192.0.2.1 054 443\r\n",
    b"PROXY TCP4 203.0.113.256 192.0.2.1 1 443\r\n",
    b"PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n",
    b"PROXY TCP6 203.0.113.7 192.0.2.1 1 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 443\r\n",
    b"PROXY UDP4 203.0.113.7 192.0.2.1 1 443\r\n",
    b"PROXY UNKNOWNED\r\n",
    b"PROXY TCP4 " + b"1" * 120,
    SIGNATURE + b"\x11\x11\x00\x0c" + BODY_4,  # version 1 in the binary form
    SIGNATURE + b"\x22\x11\x00\x0c" + BODY_4,  # unknown command
    SIGNATURE + b"\x21\x12\x00\x0c" + BODY_4,  # datagrams
    SIGNATURE + b"\x21\x41\x00\x0c" + BODY_4,  # unknown family
    SIGNATURE + b"\x21\x11\x00\x0b" + BODY_4,  # shorter than its addresses
    SIGNATURE + b"\x21\x21\x00\x0c" + BODY_4,
    SIGNATURE + b"\x21\x11\xff\xff" + BODY_4,  # larger than allowed
]


@pytest.mark.parametrize("data", HEADERS)
def test_a_header_is_read_and_what_follows_is_left(data: bytes) -> None:
    expected = ProxyHeader(len(data), *HEADERS[data])
    assert proxy_protocol.decode(data) == expected
    assert proxy_protocol.decode(data + b"\x16\x03\x01 PROXY \r\n") == expected


@pytest.mark.parametrize("data", HEADERS)
def test_every_truncation_asks_for_more_and_never_for_more_than_there_is(data: bytes) -> None:
    for length in range(1, len(data)):
        wanted = proxy_protocol.decode(data[:length])
        assert isinstance(wanted, int)
        assert length < wanted <= len(data)


@pytest.mark.parametrize("data", REFUSED)
def test_anything_else_is_refused(data: bytes) -> None:
    if not data:
        assert proxy_protocol.begins(data)
        return
    with pytest.raises(DecodeError):
        proxy_protocol.decode(data)


ports = st.integers(0, 0xFFFF)
endpoints_4 = st.builds(AddrPort, st.ip_addresses(v=4), ports)
# Mapped addresses come back as what they map.
endpoints_6 = st.builds(
    AddrPort,
    st.ip_addresses(v=6).filter(lambda ip: isinstance(ip, IPv6Address) and not ip.ipv4_mapped),
    ports,
)


@given(
    st.one_of(st.tuples(endpoints_4, endpoints_4), st.tuples(endpoints_6, endpoints_6)),
    st.binary(max_size=99),
)
def test_what_is_written_is_read(pair: tuple[AddrPort, AddrPort], extensions: bytes) -> None:
    for data in (proxy_protocol.encode_v1(*pair), proxy_protocol.encode_v2(*pair, extensions)):
        assert proxy_protocol.decode(data + b"rest") == ProxyHeader(len(data), *pair)


def test_the_proxy_s_own_connection_has_no_source() -> None:
    data = proxy_protocol.encode_local_v2()
    assert proxy_protocol.decode(data) == ProxyHeader(len(data), None, None)


def test_mixed_families_cannot_be_written() -> None:
    for encode in (proxy_protocol.encode_v1, proxy_protocol.encode_v2):
        with pytest.raises(ValueError, match="family"):
            encode(AddrPort(IPv4Address(1), 1), AddrPort(IPv6Address(1), 1))


@given(
    st.one_of(st.binary(), st.binary().map(lambda data: SIGNATURE + data), st.binary().map(b"PROXY ".__add__))
)
def test_no_bytes_do_anything_but_decode_ask_or_refuse(data: bytes) -> None:
    try:
        found = proxy_protocol.decode(data)
    except DecodeError:
        return
    if isinstance(found, int):
        assert len(data) < found <= proxy_protocol.MAX_BYTES
    else:
        assert found.length <= len(data)
