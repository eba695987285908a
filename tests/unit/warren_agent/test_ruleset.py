"""What goes into the agent's nftables table."""

from __future__ import annotations

import json
from typing import Any

from support.members import networks
from warren_agent.host import Network
from warren_agent.ruleset import disjoint, ruleset


def rules(chain: str, local: tuple[Network, ...], remote: tuple[Network, ...]) -> list[list[dict[str, Any]]]:
    objects = ruleset("warren0", 41641, local, remote).objects
    return [entry["rule"]["expr"] for entry in objects if entry.get("rule", {}).get("chain") == chain]


def test_sources_of_local_pods_are_kept_towards_ranges_of_others_of_the_same_family() -> None:
    found = rules(
        "keep-source",
        networks("10.1.0.0/16", "fd00:1::/64"),
        networks("10.2.0.0/16", "10.3.0.0/16", "fd00:2::/64"),
    )
    assert len(found) == 2
    text = json.dumps(found[0])
    assert '"right": {"prefix": {"addr": "10.1.0.0", "len": 16}}' in text
    assert '"addr": "10.3.0.0"' in text
    assert "fd00" not in text
    assert found[0][-1] == {
        "snat": {"family": "ip", "addr": {"payload": {"protocol": "ip", "field": "saddr"}}}
    }


def test_what_was_dnated_is_left_to_the_masquerade() -> None:
    (found,) = rules("keep-source", networks("10.1.0.0/16"), networks("10.2.0.0/16"))
    assert {"match": {"op": "!", "left": {"ct": {"key": "status"}}, "right": "dnat"}} in found


def test_nothing_is_kept_without_ranges_of_others() -> None:
    assert rules("keep-source", networks("10.1.0.0/16"), ()) == []
    assert rules("keep-source", networks("10.1.0.0/16"), networks("fd00:2::/64")) == []


def masquerades(ranges: tuple[Network, ...], kept: tuple[Network, ...] = ()) -> list[list[dict[str, Any]]]:
    objects = ruleset("warren0", 41641, kept, (), masqueraded=ranges).objects
    return [entry["rule"]["expr"] for entry in objects if entry.get("rule", {}).get("chain") == "masquerade"]


def test_advertised_ranges_are_masqueraded_but_for_those_whose_sources_are_kept() -> None:
    (found,) = masquerades(
        networks("192.168.2.0/24", "10.1.0.0/16", "fd00:1::/64"), networks("10.1.0.0/16", "fd00::/16")
    )
    text = json.dumps(found)
    assert ("192.168.2.0" in text, "10.1.0.0" in text, found[-1]) == (True, False, {"masquerade": None})
    assert masquerades(networks("10.1.0.0/16"), networks("10.1.0.0/16")) == []


def test_a_kept_range_inside_an_advertised_one_is_left_out_of_the_masquerade() -> None:
    (found,) = masquerades(networks("10.0.0.0/8"), networks("10.1.0.0/16", "172.16.0.0/16"))
    ((kept,),) = [[m["match"] for m in found if m.get("match", {}).get("op") == "!="]]
    assert kept["right"] == {"prefix": {"addr": "10.1.0.0", "len": 16}}


def test_an_exit_node_masquerades_whatever_the_destination() -> None:
    four, six = masquerades(networks("0.0.0.0/0", "::/0", "192.168.2.0/24"))
    assert '"ipv4"' in json.dumps(four)
    assert '"ipv6"' in json.dumps(six)
    assert "192.168.2.0" not in json.dumps(four)


def test_segments_fit_the_tunnel_in_both_directions_and_families() -> None:
    sizes = [rule[-1]["mangle"]["value"] for rule in rules("clamp-mss", (), ())]
    assert sizes == [1240, 1220, 1240, 1220]


def test_only_loopback_traffic_of_our_port_is_untracked() -> None:
    for chain in ("untracked-in", "untracked-out"):
        for rule in rules(chain, (), ()):
            assert '"lo"' in json.dumps(rule)
            assert "127.0.0.0" in json.dumps(rule)
            assert "41641" in json.dumps(rule)


def test_ranges_inside_others_are_left_out_because_sets_may_not_overlap() -> None:
    assert disjoint(networks("10.2.3.0/24", "10.2.0.0/16", "10.2.0.0/16", "10.3.0.1/32")) == list(
        networks("10.2.0.0/16", "10.3.0.1/32")
    )
