"""The text protocol of userspace WireGuard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.members import networks, node_key, node_private
from warren_agent.kernel.interfaces import PeerConfig
from warren_agent.kernel.uapi import (
    PEERS_PER_REQUEST,
    encode_configuration,
    encode_endpoint,
    encode_peers,
    parse_device,
)
from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError

OFFICE = node_key("office").raw.hex()
ANSWER = f"""\
private_key={node_private("home").raw.hex()}
listen_port=41641
fwmark=91226112
public_key={OFFICE}
preshared_key={"0" * 64}
protocol_version=1
endpoint=[2001:db8::2]:41641
last_handshake_time_sec=1700000000
last_handshake_time_nsec=5
tx_bytes=740
rx_bytes=684
persistent_keepalive_interval=0
allowed_ip=100.64.0.2/32
allowed_ip=10.2.0.0/16
public_key={node_key("branch").raw.hex()}
tx_bytes=0
rx_bytes=0""".splitlines()


def test_an_answer_is_read_whole() -> None:
    state = parse_device(ANSWER)
    assert state.private == node_private("home")
    assert (state.listen_port, state.fwmark, state.public) == (41641, 0x5700000, node_key("home"))
    office = state.peers[node_key("office")]
    assert office.endpoint == AddrPort.parse("[2001:db8::2]:41641")
    assert (office.tx_bytes, office.rx_bytes) == (740, 684)
    assert office.last_handshake_unix_ns == 1_700_000_000_000_000_005
    assert office.allowed_ips == networks("100.64.0.2/32", "10.2.0.0/16")
    branch = state.peers[node_key("branch")]
    assert (branch.endpoint, branch.allowed_ips) == (None, ())


def test_an_unconfigured_device_has_no_key() -> None:
    assert parse_device([f"private_key={'0' * 64}", "listen_port=0"]).public is None


def test_a_private_key_never_shows() -> None:
    assert node_private("home").raw.hex() not in repr(parse_device(ANSWER))


def test_a_link_local_endpoint_is_no_endpoint() -> None:
    state = parse_device([f"public_key={OFFICE}", "endpoint=[fe80::1%eth0]:41641"])
    assert state.peers[node_key("office")].endpoint is None


@pytest.mark.parametrize(
    "lines",
    [
        ["nonsense"],
        ["public_key=12"],
        [f"public_key={OFFICE}", "endpoint=nowhere"],
        [f"public_key={OFFICE}", "rx_bytes=-1"],
        [f"public_key={OFFICE}", f"rx_bytes={'9' * 21}"],
        [f"public_key={OFFICE}", "rx_bytes=1e3"],
        [f"public_key={OFFICE}", "allowed_ip=10.2.0.1/16"],
        [f"public_key={OFFICE}", "allowed_ip=all"],
        [f"public_key={OFFICE}", "last_handshake_time_nsec=1000000000"],
        ["listen_port=65536"],
        ["fwmark=4294967296"],
        ["private_key=secret"],
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(lines: list[str]) -> None:
    with pytest.raises(DecodeError):
        parse_device(lines)


@given(st.lists(st.text(max_size=80), max_size=8))
def test_arbitrary_lines_give_a_device_or_a_decode_error(lines: list[str]) -> None:
    try:
        parse_device(lines)
    except DecodeError:
        pass


@given(st.integers(0, len("\n".join(ANSWER))))
def test_a_truncated_answer_gives_a_device_or_a_decode_error(length: int) -> None:
    try:
        parse_device("\n".join(ANSWER)[:length].splitlines())
    except DecodeError:
        pass


def test_only_what_changes_is_configured() -> None:
    assert encode_configuration(None, 41641, None) == "set=1\nlisten_port=41641\n\n"


def test_a_new_peer_gets_an_endpoint_and_a_running_one_keeps_its_own() -> None:
    new = PeerConfig(node_key("office"), networks("10.2.0.0/16"), AddrPort.parse("127.1.0.1:51820"))
    running = PeerConfig(node_key("branch"), networks("10.3.0.0/16"))
    assert encode_peers([new, running], []) == [
        f"set=1\npublic_key={OFFICE}\nendpoint=127.1.0.1:51820\nreplace_allowed_ips=true\n"
        f"allowed_ip=10.2.0.0/16\npublic_key={node_key('branch').raw.hex()}\nupdate_only=true\n"
        "replace_allowed_ips=true\nallowed_ip=10.3.0.0/16\n\n"
    ]


def test_removals_come_after_additions_and_peers_are_never_replaced() -> None:
    (request,) = encode_peers([PeerConfig(node_key("office"), ())], [node_key("branch")])
    assert request.index(OFFICE) < request.index(f"{node_key('branch').raw.hex()}\nremove=true")
    assert "replace_peers" not in request


def test_many_peers_go_in_several_requests() -> None:
    requests = encode_peers([PeerConfig(node_key("office"), ())] * (PEERS_PER_REQUEST + 1), [])
    assert [request.count("public_key=") for request in requests] == [PEERS_PER_REQUEST, 1]
    assert all(request.startswith("set=1\n") and request.endswith("\n\n") for request in requests)


def test_an_endpoint_is_set_on_a_present_peer_only() -> None:
    assert encode_endpoint(node_key("office"), AddrPort.parse("203.0.113.20:41641")) == (
        f"set=1\npublic_key={OFFICE}\nupdate_only=true\nendpoint=203.0.113.20:41641\n\n"
    )
