"""Bytes of the kernel's WireGuard interface. The hex tables were put together from the kernel's headers."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.members import networks, node_key, node_private
from warren_agent.kernel import wireguard_codec as codec
from warren_agent.kernel.interfaces import PeerConfig
from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError

pytestmark = pytest.mark.skipif(
    sys.byteorder != "little", reason="needs a little-endian machine: byte tables"
)

OFFICE = node_key("office")
KEY = "24000100" + OFFICE.raw.hex()


def spaced(text: str) -> bytes:
    return bytes.fromhex(text)


SOCKADDRS = [
    ("203.0.113.20:41641", "0200 a2a9 cb007114 0000000000000000"),
    ("[2001:db8::2]:41641", "0a00 a2a9 00000000 20010db8000000000000000000000002 00000000"),
]


@pytest.mark.parametrize(("text", "table"), SOCKADDRS)
def test_endpoints(text: str, table: str) -> None:
    endpoint = AddrPort.parse(text)
    assert codec.encode_sockaddr(endpoint) == spaced(table)
    assert codec.decode_sockaddr(spaced(table)) == endpoint


def test_a_link_local_endpoint_is_no_endpoint() -> None:
    assert codec.decode_sockaddr(spaced("0a00a2a900000000fe80000000000000000000000000000102000000")) is None


def test_a_request_for_the_family() -> None:
    # header: length 36, type 16, request and acknowledgement, sequence 7; get family; its name.
    assert codec.family_request(7) == spaced(
        "24000000 1000 0500 07000000 00000000 03010000 0e000200 77697265677561726400 0000"
    )


def test_a_request_for_a_device() -> None:
    assert codec.get_device_payload("warren0") == spaced("00010000 0c000200 77617272656e3000")


def test_device_settings() -> None:
    payload = codec.set_device_payload("wg0", node_private("home"), 41641, 0x5700000)
    assert payload == spaced(
        "01010000 08000200 77673000 24000300"
        + node_private("home").raw.hex()
        + "06000600 a9a20000 08000700 00007005"
    )


def test_only_what_is_given_is_set() -> None:
    assert codec.set_device_payload("wg0", None, None, None) == spaced("01010000 08000200 77673000")


ALLOWED_V4 = "1c000080 06000100 02000000 08000200 0a020000 05000300 10000000"


def test_a_new_peer_with_endpoint_and_allowed_address() -> None:
    peer = PeerConfig(OFFICE, networks("10.2.0.0/16"), AddrPort.parse("203.0.113.20:41641"))
    assert codec.peer_blocks(peer) == [
        spaced(
            "64000080"
            + KEY
            + "14000400 0200a2a9cb0071140000000000000000"
            + "08000300 02000000"
            + "20000980"
            + ALLOWED_V4
        )
    ]


def test_a_running_peer_is_only_updated() -> None:
    assert codec.peer_blocks(PeerConfig(OFFICE, ())) == [
        spaced("34000080" + KEY + "08000300 06000000" + "04000980")
    ]


def test_a_removal() -> None:
    assert codec.removal_block(OFFICE) == spaced("30000080" + KEY + "08000300 05000000")


def test_an_endpoint_of_a_present_peer() -> None:
    assert codec.endpoint_block(OFFICE, AddrPort.parse("203.0.113.20:41641")) == spaced(
        "44000080" + KEY + "08000300 04000000" + "14000400 0200a2a9cb0071140000000000000000"
    )


def test_many_allowed_addresses_are_split_and_only_the_first_block_replaces() -> None:
    many = networks(*(f"10.{n // 256}.{n % 256}.0/24" for n in range(codec.ALLOWED_IPS_PER_BLOCK + 1)))
    blocks = codec.peer_blocks(PeerConfig(OFFICE, many, AddrPort.parse("127.0.0.2:1")))
    assert len(blocks) == 2
    assert spaced("08000300 02000000") in blocks[0]
    assert spaced("08000300 04000000") in blocks[1]


def test_many_peers_are_split_below_the_size_of_an_attribute() -> None:
    blocks = codec.peer_blocks(PeerConfig(OFFICE, networks("10.2.0.0/16"))) * 1000
    payloads = codec.set_peers_payloads("wg0", blocks)
    assert len(payloads) > 1
    assert all(len(payload) < 65536 for payload in payloads)
    assert sum(payload.count(OFFICE.raw) for payload in payloads) == 1000


PEER_FIRST = (
    KEY
    + "14000400 0200a2a9cb0071140000000000000000"
    + "14000600 00f1536500000000 0500000000000000"
    + "0c000700 ac02000000000000"
    + "0c000800 e402000000000000"
    + "20000980"
    + ALLOWED_V4
)
FIRST = "00010000 0c000200 77617272656e3000 06000600 a9a20000 08000700 00007005"


def peers_attribute(*peers: str) -> str:
    blocks = b"".join(codec.nested(0, [spaced(peer)]) for peer in peers)
    return codec.nested(8, [blocks]).hex()


def test_a_dump_split_inside_a_peer_gives_one_peer_with_all_its_addresses() -> None:
    dump = codec.DeviceDump()
    dump.feed(spaced(FIRST + peers_attribute(PEER_FIRST)))
    rest = KEY + "20000980" + ALLOWED_V4.replace("0a020000", "0a030000")
    dump.feed(spaced("00010000 0c000200 77617272656e3000" + peers_attribute(rest)))
    assert (dump.listen_port, dump.fwmark) == (41641, 0x5700000)
    (stats,) = dump.peers().values()
    assert stats.endpoint == AddrPort.parse("203.0.113.20:41641")
    assert (stats.rx_bytes, stats.tx_bytes) == (684, 740)
    assert stats.last_handshake_unix_ns == 1_700_000_000_000_000_005
    assert stats.allowed_ips == networks("10.2.0.0/16", "10.3.0.0/16")


def test_several_peers_in_one_message() -> None:
    branch = PEER_FIRST.replace(OFFICE.raw.hex(), node_key("branch").raw.hex())
    dump = codec.DeviceDump()
    dump.feed(spaced(FIRST + peers_attribute(PEER_FIRST, branch)))
    assert set(dump.peers()) == {OFFICE, node_key("branch")}


@given(st.integers(0, len(spaced(FIRST + peers_attribute(PEER_FIRST))) - 1))
def test_a_truncated_message_is_refused_or_read_as_less(length: int) -> None:
    try:
        codec.DeviceDump().feed(spaced(FIRST + peers_attribute(PEER_FIRST))[:length])
    except DecodeError:
        pass


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_dump_or_a_decode_error(data: bytes) -> None:
    try:
        codec.DeviceDump().feed(data)
        list(codec.messages(data))
    except DecodeError:
        pass


def test_messages_of_one_read_are_told_apart() -> None:
    two = codec.message(20, 2, 5, b"abc") + b"\0" + codec.message(codec.NLMSG_DONE, 2, 5, bytes(4))
    assert [(m.type, m.payload) for m in codec.messages(two)] == [(20, b"abc"), (3, bytes(4))]


def test_an_error_carries_its_number() -> None:
    assert codec.error_code(spaced("a1ffffff")) == 95
    assert codec.error_code(bytes(4)) == 0


def test_the_id_of_the_family_is_found() -> None:
    assert codec.family_id(spaced("01020000 06000100 1f000000 0e000200 776972656775617264000000")) == 0x1F
