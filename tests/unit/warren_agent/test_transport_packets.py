"""Headers, checksums, the socket filter, and merged datagrams taken apart."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.bpf import run_filter
from warren_agent.transport import bpf, packets
from warren_wire import disco, stun
from warren_wire.addresses import AddrPort
from warren_wire.crypto import SharedBox
from warren_wire.keys import DiscoPrivate, NodePrivate

PORT = 41641
HOME = AddrPort(IPv4Address("192.0.2.1"), PORT)
OFFICE = AddrPort(IPv4Address("198.51.100.2"), 3478)
DISCO = DiscoPrivate.from_seed(b"\x11" * 32)
BOX = SharedBox(DISCO.raw, DiscoPrivate.from_seed(b"\x22" * 32).public.raw)
NODE = NodePrivate.from_seed(b"\x33" * 32).public
TXID = bytes(range(1, 13))

PING = disco.seal(disco.Ping(TXID, NODE), DISCO.public, BOX, bytes(24))
OLD_PING = disco.seal(disco.Ping(TXID), DISCO.public, BOX, bytes(24))
PONG = disco.seal(disco.Pong(TXID, HOME), DISCO.public, BOX, bytes(24))
STUN_V4 = stun.binding_response(TXID, HOME)
STUN_V6 = stun.binding_response(TXID, AddrPort(IPv6Address("2001:db8::7"), PORT))
DATA = b"\x04\0\0\0" + bytes(range(256)) * 5
CONTROL = [PING, OLD_PING, PONG, STUN_V4, STUN_V6]


def v4(payload: bytes, port: int = PORT, options: bytes = b"") -> bytes:
    header = bytes([0x45 + len(options) // 4]) + bytes(11) + HOME.ip.packed + OFFICE.ip.packed + options
    return header + struct.pack("!HHHH", 5000, port, 8 + len(payload), 0) + payload


def v6(payload: bytes, port: int = PORT) -> bytes:
    return struct.pack("!HHHH", 5000, port, 8 + len(payload), 0) + payload


def accepts(packet: bytes, *, ipv6: bool = False) -> bool:
    return run_filter(bpf.control_filter(PORT, ipv6=ipv6), packet) > 0


@pytest.mark.parametrize("payload", CONTROL)
def test_the_filter_lets_disco_and_stun_answers_through(payload: bytes) -> None:
    assert accepts(v4(payload))
    assert accepts(v4(payload, options=bytes(8)))
    assert accepts(v6(payload), ipv6=True)
    assert not accepts(v4(payload, port=PORT + 1))


@pytest.mark.parametrize("payload", CONTROL)
def test_the_filter_finds_control_messages_that_were_merged_behind_data(payload: bytes) -> None:
    assert accepts(v4(DATA * 3 + payload))
    assert accepts(v6(DATA * 3 + payload), ipv6=True)


@pytest.mark.parametrize("length", [0, 1, 4, 16, 31, 32, 44, 92, 110, 124, 148, 1284])
def test_the_filter_keeps_wireguard_out(length: int) -> None:
    assert not accepts(v4((DATA * 2)[:length]))
    assert not accepts(v6((DATA * 2)[:length]), ipv6=True)


def test_the_filter_rejects_what_is_cut_short() -> None:
    whole = v4(PING)
    assert not any(accepts(whole[:length]) for length in range(32))


def test_stun_requests_are_not_for_us() -> None:
    assert not accepts(v4(stun.binding_request(TXID)))


@pytest.mark.parametrize(
    ("merged", "messages"),
    [
        (PING, [PING]),
        (PING + PONG, [PING, PONG]),
        (PING + PING + PONG, [PING, PING, PONG]),
        (PING + STUN_V4, [PING, STUN_V4]),
        (STUN_V4 + STUN_V4, [STUN_V4, STUN_V4]),
        (STUN_V6 + PONG, [STUN_V6, PONG]),
        (DATA + PONG, [PONG]),
        (DATA + OLD_PING, [OLD_PING]),
        (DATA * 4 + STUN_V4, [STUN_V4]),
        (DATA * 4 + STUN_V6, [STUN_V6]),
        (DATA, []),
        (b"", []),
    ],
)
def test_merged_datagrams_are_taken_apart(merged: bytes, messages: list[bytes]) -> None:
    assert packets.split_merged(merged) == messages


@given(st.binary(max_size=400), st.sampled_from([b"", PING, STUN_V4]), st.binary(max_size=200))
def test_taking_apart_never_fails_and_invents_nothing(head: bytes, middle: bytes, tail: bytes) -> None:
    merged = head + middle + tail
    assert b"".join(packets.split_merged(merged)) in merged


def test_the_udp_checksum_verifies() -> None:
    for payload in (b"", b"odd", b"even"):
        datagram = packets.udp_datagram(HOME, OFFICE, payload)
        pseudo = HOME.ip.packed + OFFICE.ip.packed + struct.pack("!II", len(datagram), 17)
        assert packets.checksum(pseudo, datagram) == 0
        assert datagram[6:8] != b"\0\0"


def test_a_sum_of_zero_is_written_in_its_other_form() -> None:
    ports = struct.pack("!HHH", PORT, 3478, 10)
    pseudo = HOME.ip.packed + OFFICE.ip.packed + struct.pack("!II", 10, 17)
    payload = packets.checksum(pseudo, ports, b"\0\0").to_bytes(2, "big")
    assert packets.udp_datagram(HOME, OFFICE, payload)[6:8] == b"\xff\xff"


def test_a_whole_packet_reads_back() -> None:
    packet = packets.ipv4_packet(HOME, OFFICE, b"payload")
    assert packets.parse_ipv4(packet) == packets.Received(HOME, OFFICE.ip, b"payload")


@pytest.mark.parametrize("payload", [b"", b"odd", bytes(1200)])
def test_a_whole_packet_of_ipv6_has_the_checksum_that_receivers_ask_for(payload: bytes) -> None:
    source, own = AddrPort.parse("[2001:db8::2]:51820"), AddrPort.parse("[2001:db8::1]:41641")
    packet = packets.ipv6_packet(source, own, payload)
    assert packet[:4] == b"\x60\0\0\0"
    assert struct.unpack("!HBB", packet[4:8]) == (8 + len(payload), 17, 64)
    assert (packet[8:24], packet[24:40]) == (source.ip.packed, own.ip.packed)
    assert packet[40:] == packets.udp_datagram(source, own, payload)
    # With its own checksum in it, the sum over everything is zero (RFC 8200, section 8.1).
    pseudo = packet[8:40] + struct.pack("!II", 8 + len(payload), 17)
    assert packets.checksum(pseudo, packet[40:]) == 0


def test_options_are_skipped_and_short_packets_refused() -> None:
    received = packets.parse_ipv4(v4(b"payload", options=bytes(12)))
    assert received is not None
    assert received.payload == b"payload"
    whole = v4(b"")
    assert all(packets.parse_ipv4(whole[:length]) is None for length in range(len(whole)))
    assert packets.parse_ipv4(b"\x41" + whole[1:]) is None
    assert packets.parse_ipv4(b"\x65" + whole[1:]) is None
