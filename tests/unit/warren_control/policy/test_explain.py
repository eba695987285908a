"""Why a node reaches another, and what a new policy changes."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

from hypothesis import given, settings

from support.policy_mesh import NAMES, Mesh
from support.policy_oracle import Oracle, Packet
from support.policy_worlds import DOMAIN, networks, policies, text
from warren_control.policy.differences import ReachChange, reach_changes
from warren_control.policy.explain import explain
from warren_control.policy.index import build_index
from warren_control.policy.load import load
from warren_control.policy.network import Network
from warren_control.policy.ports import Ports

MESH = (
    Mesh()
    .with_node("laptop", user=1)
    .with_node("desk", user=3)
    .with_node("shop", tags="web")
    .with_node("store", tags="db")
    .with_node("edge", tags="router", routes="10.1.0.0/16")
)


def acl(src: str, *dst: str, **more: Any) -> dict[str, Any]:
    return {"action": "accept", "src": [src], "dst": list(dst), **more}


def changes(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[ReachChange]:
    documents = [load(json.dumps({**NAMES, "acls": acls}), [DOMAIN]) for acls in (old, new)]
    return list(reach_changes(documents[0], documents[1], MESH.network))


def test_the_rules_that_allow_a_connection_are_named_with_their_line() -> None:
    policy = MESH.under(acls=[acl("group:dev", "tag:web:443"), acl("ana@example.com", "*:*", proto="udp")])
    laptop, shop = MESH.nodes["laptop"], MESH.nodes["shop"]
    found = explain(policy.index, laptop, shop, 443, 6)
    assert {str(one.place) for one in found} == {"acls[0].dst[0] (line 1)"}
    assert {str(one.destination) for one in found} == {"100.64.0.3", "fd7a:115c:a1e0::3"}
    assert {str(one.place) for one in explain(policy.index, laptop, shop, 443, 17)} == {
        "acls[0].dst[0] (line 1)",
        "acls[1].dst[0] (line 1)",
    }
    assert explain(policy.index, shop, laptop, 443, 6) == ()


@settings(max_examples=100, deadline=None)
@given(policies(), networks())
def test_a_connection_is_explained_exactly_if_it_is_allowed(policy: dict[str, Any], network: Network) -> None:
    index, oracle = build_index(load(text(policy), [DOMAIN]), network), Oracle(policy, network)
    for one, other in product(network.nodes.values(), repeat=2):
        for port, protocol in product((22, 443), (6, 17)):
            allowed = any(
                oracle.allows(Packet(a, b, port, protocol), other)
                for a, b in zip(one.addresses, other.addresses, strict=True)
            )
            assert bool(explain(index, one, other, port, protocol)) == allowed


def test_a_diff_names_who_gains_and_loses_which_ports() -> None:
    found = changes(
        [acl("group:dev", "tag:web:80-90", proto="tcp"), acl("tag:web", "tag:db:5432", proto="tcp")],
        [acl("group:dev", "tag:web:85-95", proto="tcp"), acl("tag:web", "tag:db:5432", proto="tcp")],
    )
    nothing, people, shop = frozenset[int](), frozenset({1, 2}), frozenset({3})
    assert found == [
        ReachChange(shop, frozenset(), (6,), Ports(80, 84), nothing, people),
        ReachChange(shop, frozenset(), (6,), Ports(91, 95), people, nothing),
    ]


def test_a_diff_of_policies_that_mean_the_same_is_empty() -> None:
    one = [acl("group:dev", "tag:web:1-100", "autogroup:self:22")]
    other = [
        acl("ana@example.com", "tag:web:1-50", "tag:web:51-100"),
        acl("cleo@example.org", "tag:web:1-100"),
        acl("autogroup:member", "autogroup:self:22"),
    ]
    assert changes(one, other) == []


def test_a_diff_has_routes_beside_nodes() -> None:
    (found,) = changes([], [acl("tag:web", "printer:631", proto="tcp")])
    assert found.routes == {"10.1.0.0/16"}
    assert found.gained == {3}
    assert not found.nodes


@settings(max_examples=60, deadline=None)
@given(policies(), policies(), networks())
def test_a_diff_is_what_the_oracle_answers_differently(
    old: dict[str, Any], new: dict[str, Any], network: Network
) -> None:
    documents = [load(text(one), [DOMAIN]) for one in (old, new)]
    indexes = [build_index(one, network) for one in documents]
    found = reach_changes(documents[0], documents[1], network)
    for one, other in product(network.nodes.values(), repeat=2):
        if one is other:
            continue
        for port, protocol in product((22, 443), (6, 17)):
            had, has = (bool(explain(index, one, other, port, protocol)) for index in indexes)
            here = [
                change
                for change in found
                if other.id in change.nodes
                and protocol in change.protocols
                and change.ports.first <= port <= change.ports.last
            ]
            # A rule about one address family of a node may show as a change though the other had it before.
            if had != has:
                assert any(one.id in (change.gained if has else change.lost) for change in here)
