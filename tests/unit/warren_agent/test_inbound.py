"""What the packet filter of a network map lets in."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.members import networks
from warren_agent.inbound import (
    DEFAULT_PROTOCOLS,
    EVERYTHING,
    PacketFilter,
    Span,
    common,
    merged,
    packet_filter,
)
from warren_agent.inbound_rules import inbound_expressions
from warren_wire.control.map_reader import read_map_response
from warren_wire.control.netmap import EMPTY, apply

NODE = {
    "ID": 1,
    "Key": "nodekey:" + "01" * 32,
    "Addresses": ["100.64.0.1/32"],
    "AllowedIPs": ["100.64.0.1/32"],
}
PEER = {
    "ID": 2,
    "Key": "nodekey:" + "02" * 32,
    "Addresses": ["100.64.0.2/32"],
    "AllowedIPs": ["100.64.0.2/32"],
    "CapMap": {"https://example.net/cap/backup": None},
}
LOCAL = [Span.of(network) for network in networks("100.64.0.1/32", "fd7a:115c:a1e0::1/128", "10.1.0.0/16")]


def read(*rules: dict[str, Any], **fields: Any) -> PacketFilter:
    message = {"Node": NODE, "Peers": [PEER], "PacketFilter": list(rules), **fields}
    return packet_filter(apply(EMPTY, read_map_response(json.dumps(message).encode()).response))


def to(address: str, first: int = 0, last: int = 65535, **fields: Any) -> dict[str, Any]:
    return {"IP": address, "Ports": {"First": first, "Last": last}, **fields}


def rule(sources: list[str], *targets: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"SrcIPs": sources, "DstPorts": list(targets), **fields}


def span(first: str, last: str | None = None) -> Span:
    low, high = ip_address(first), ip_address(last or first)
    return Span(low.version, int(low), int(high))


def text(value: Any) -> str:
    """A right side as a person would write it."""
    match value:
        case {"set": members}:
            return "{" + ",".join(text(member) for member in members) + "}"
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [first, last]}:
            return f"{first}-{last}"
        case _:
            return str(value)


def line(expressions: list[dict[str, Any]]) -> str:
    words = []
    for expression in expressions:
        match expression:
            case {"match": {"left": {"payload": {"protocol": protocol, "field": field}}, "right": right}}:
                words.append(f"{protocol} {field} {text(right)}")
            case {"match": {"left": {"meta": {"key": key}}, "right": right}}:
                words.append(f"{key} {right}")
            case {"match": {"left": {"ct": _}}}:
                words.append("replies")
            case _:
                words += expression
    return " ".join(words)


def lines(*rules: dict[str, Any]) -> list[str]:
    return [line(expressions) for expressions in inbound_expressions(read(*rules).allowances, LOCAL)]


def test_nothing_but_replies_comes_in_without_a_rule() -> None:
    assert lines() == ["replies accept", "drop"]
    never_sent = packet_filter(
        apply(EMPTY, read_map_response(json.dumps({"Node": NODE, "Peers": []}).encode()).response)
    )
    assert never_sent == PacketFilter()


def test_a_rule_lets_its_ports_in_and_icmp_by_its_addresses_alone() -> None:
    assert lines(rule(["100.64.0.2"], to("100.64.0.1", 22, 22), IPProto=[6])) == [
        "replies accept",
        "ip saddr 100.64.0.2 ip daddr 100.64.0.1 l4proto 1 accept",
        "ip saddr 100.64.0.2 ip daddr 100.64.0.1 tcp dport 22 accept",
        "drop",
    ]


def test_signals_between_node_programs_reach_own_addresses_without_a_rule() -> None:
    own = [Span.of(ip_network("100.64.0.1/32"))]
    found = [line(expressions) for expressions in inbound_expressions((), LOCAL, own)]
    assert found == ["replies accept", "ip daddr 100.64.0.1 l4proto 99 accept", "drop"]


def test_a_rule_without_protocols_means_tcp_udp_and_icmp() -> None:
    assert lines(rule(["100.64.0.0/10"], to("100.64.0.1"))) == [
        "replies accept",
        "ip saddr 100.64.0.0/10 ip daddr 100.64.0.1 l4proto 1 accept",
        "ip saddr 100.64.0.0/10 ip daddr 100.64.0.1 l4proto 6 accept",
        "ip saddr 100.64.0.0/10 ip daddr 100.64.0.1 l4proto 17 accept",
        "drop",
    ]


def test_any_means_both_families_and_still_only_what_is_ours() -> None:
    found = lines(rule(["*"], to("*", 53, 53), IPProto=[17]))
    assert found == [
        "replies accept",
        "ip daddr {10.1.0.0/16,100.64.0.1} l4proto 1 accept",
        "ip daddr {10.1.0.0/16,100.64.0.1} udp dport 53 accept",
        "ip6 daddr fd7a:115c:a1e0::1 l4proto 58 accept",
        "ip6 daddr fd7a:115c:a1e0::1 udp dport 53 accept",
        "drop",
    ]


def test_a_destination_of_others_lets_nothing_in() -> None:
    assert lines(rule(["*"], to("192.168.7.0/24"))) == ["replies accept", "drop"]


def test_other_protocols_need_a_rule_that_names_them_and_has_all_ports() -> None:
    assert "ip saddr 100.64.0.2 ip daddr 100.64.0.1 l4proto 47 accept" in lines(
        rule(["100.64.0.2"], to("100.64.0.1"), IPProto=[47])
    )
    assert not any("47" in each for each in lines(rule(["100.64.0.2"], to("100.64.0.1", 1, 9), IPProto=[47])))
    sctp = lines(rule(["100.64.0.2"], to("100.64.0.1", 1, 9), IPProto=[132]))
    assert "ip saddr 100.64.0.2 ip daddr 100.64.0.1 sctp dport 1-9 accept" in sctp


def test_values_that_are_no_protocols_are_ignored() -> None:
    (found,) = read(rule(["*"], to("*"), IPProto=[6, 256, -1])).allowances
    assert found.protocols == {6}


def test_ports_of_one_destination_are_joined() -> None:
    found = lines(
        rule(["100.64.0.2"], to("100.64.0.1", 80, 90), to("100.64.0.1", 91, 99), to("100.64.0.1", 22, 22))
    )
    assert "ip saddr 100.64.0.2 ip daddr 100.64.0.1 tcp dport {22,80-99} accept" in found


def test_ranges_and_prefixes_are_sources() -> None:
    (found,) = read(rule(["100.64.0.5-100.64.0.9", "10.0.0.0/8", "fd00::/8"], to("*"))).allowances
    assert found.sources == (
        span("10.0.0.0", "10.255.255.255"),
        span("100.64.0.5", "100.64.0.9"),
        Span.of(networks("fd00::/8")[0]),
    )
    assert found.protocols == DEFAULT_PROTOCOLS


def test_a_capability_names_the_peers_that_have_it() -> None:
    (found,) = read(rule(["cap:https://example.net/cap/backup"], to("*"))).allowances
    assert found.sources == (span("100.64.0.2"),)
    assert read(rule(["cap:https://example.net/cap/other"], to("*"))).allowances == ()


@pytest.mark.parametrize(
    "bad", ["10.0.0.1/8", "nonsense", "100.64.0.9-100.64.0.5", "1.2.3.4-::1", "300.1.1.1"]
)
def test_one_bad_source_is_lost_alone_and_reported(bad: str) -> None:
    found = read(rule([bad, "100.64.0.2"], to("*")))
    assert [allowance.sources for allowance in found.allowances] == [(span("100.64.0.2"),)]
    assert len(found.problems) == 1
    assert bad in found.problems[0]


def test_a_capability_grant_opens_nothing() -> None:
    grant = {"SrcIPs": ["*"], "CapGrant": [{"Dsts": ["100.64.0.1/32"], "CapMap": {"cap": None}}]}
    assert read(grant) == PacketFilter()


def test_retired_fields_make_every_rule_void() -> None:
    good = rule(["*"], to("*"))
    for broken in (rule(["*"], to("*"), SrcBits=[32]), rule(["*"], to("*", Bits=32))):
        found = read(good, broken)
        assert found.allowances == ()
        assert found.problems


spans = st.builds(
    lambda first, size: Span(4, first, min(first + size, 300)), st.integers(0, 300), st.integers(0, 40)
)


def inside(several: list[Span]) -> set[int]:
    return {value for each in several for value in range(each.first, each.last + 1)}


@given(st.lists(spans, max_size=8), st.lists(spans, max_size=8))
def test_spans_are_joined_and_cut_without_loss(one: list[Span], other: list[Span]) -> None:
    assert inside(merged(one)) == inside(one)
    assert inside(common(one, merged(other))) == inside(one) & inside(other)
    found = merged(one)
    assert all(a.last + 1 < b.first for a, b in pairwise(found))


def test_everything_is_both_families() -> None:
    assert [each.version for each in EVERYTHING] == [4, 6]
