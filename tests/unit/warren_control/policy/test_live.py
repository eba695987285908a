"""A policy in force while nodes, users and routes change: always what a fresh compilation would say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from support.policy_worlds import DOMAIN, USERS, nodes, policies, text
from warren_control.policy.index import PolicyIndex, build_index
from warren_control.policy.live import LivePolicy
from warren_control.policy.load import load
from warren_control.policy.network import Network, Node, Role, Settings, elect_oldest


@dataclass(frozen=True)
class Told:
    """Everything a policy says to one node."""

    filter: Any
    peers: frozenset[int]
    ssh: Any
    capabilities: dict[str, Any]
    addresses: Any
    routes: dict[int, Any]


def told(index: PolicyIndex, node_id: int) -> Told:
    peers = index.peers(node_id)
    return Told(
        index.filter(node_id),
        peers,
        index.ssh_rules(node_id),
        dict(index.capabilities(node_id)),
        {peer: index.peer_addresses(node_id, peer) for peer in peers},
        {peer: index.peer_routes(node_id, peer) for peer in peers},
    )


def networks() -> st.SearchStrategy[Network]:
    other_users = {**USERS, 2: replace(USERS[2], email="ben@example.org", roles=frozenset({Role.AUDITOR}))}
    users = st.sampled_from([USERS, USERS, USERS, other_users])
    return st.builds(
        lambda found, people, gone: network(
            {number: node for number, node in found.items() if number not in gone}, people
        ),
        nodes(),
        users,
        st.frozensets(st.integers(1, 6), max_size=2),
    )


def network(found: dict[int, Node], users: Any = USERS) -> Network:
    return Network(
        MappingProxyType(found), users, Settings(frozenset({DOMAIN})), elect_oldest(MappingProxyType(found))
    )


@settings(max_examples=150, deadline=None)
@given(policies(), st.lists(networks(), min_size=2, max_size=4))
def test_after_each_change_answers_are_those_of_a_fresh_compilation(
    policy: dict[str, Any], states: list[Network]
) -> None:
    document = load(text(policy), [DOMAIN])
    live = LivePolicy.of(document, states[0])
    for before, after in pairwise(states):
        old = {node_id: told(live.index, node_id) for node_id in before.nodes}
        changes = live.update(after)
        fresh = build_index(document, after)
        for node_id in after.nodes:
            new = told(live.index, node_id)
            assert new == told(fresh, node_id)
            if node_id not in old:
                continue
            former = old[node_id]
            assert node_id in changes.filters or new.filter == former.filter
            assert node_id in changes.ssh or new.ssh == former.ssh
            assert node_id in changes.capabilities or new.capabilities == former.capabilities
            gained, lost = new.peers - former.peers, former.peers - new.peers
            assert node_id in changes.peers or all(node_id in changes.peers[other].gained for other in gained)
            assert node_id in changes.peers or all(node_id in changes.peers[other].lost for other in lost)
            if node_id in changes.peers:
                assert (changes.peers[node_id].gained, changes.peers[node_id].lost) == (gained, lost)
            for peer in former.peers & new.peers:
                if node_id not in changes.addresses and peer not in changes.addresses:
                    assert former.addresses[peer] == new.addresses[peer]
                if node_id not in changes.viewers and peer not in changes.routers:
                    assert former.routes[peer] == new.routes[peer]


def mesh(**tags: str) -> dict[int, Node]:
    return {
        number: Node(
            number,
            name,
            (ip_address(f"100.64.0.{number}"), ip_address(f"fd7a:115c:a1e0::{number}")),
            tags=frozenset({tag}),
        )
        for number, (name, tag) in enumerate(tags.items(), start=1)
    }


TIERS = """{
  "tagOwners": {"tag:web": [], "tag:db": [], "tag:ops": []},
  "acls": [
    {"action": "accept", "src": ["tag:web"], "dst": ["tag:db:5432"]},
    {"action": "accept", "src": ["tag:ops"], "dst": ["tag:ops:22"]},
  ],
}"""


def test_a_change_that_no_rule_can_see_changes_nothing() -> None:
    found = mesh(web="tag:web", db="tag:db")
    live = LivePolicy.of(load(TIERS), network(found))
    kept = live.index.filter(2)
    renamed = {**found, 1: replace(found[1], name="shop")}
    assert not live.update(network(renamed))
    assert live.index.filter(2) is kept


def test_a_tag_change_names_only_the_nodes_whose_rules_hold_the_node() -> None:
    found = mesh(web="tag:web", db="tag:db", ops="tag:ops", jump="tag:ops")
    live = LivePolicy.of(load(TIERS), network(found))
    kept = {node_id: live.index.filter(node_id) for node_id in found}
    changes = live.update(network({**found, 3: replace(found[3], tags=frozenset({"tag:web"}))}))
    assert changes.filters == {2, 3, 4}
    assert changes.peers[3].gained == {2}
    assert changes.peers[3].lost == {4}
    assert live.index.filter(1) is kept[1]
    assert "100.64.0.3" in (live.index.filter(2)[0].src_ips or ())


def test_a_node_that_leaves_is_lost_by_those_who_saw_it() -> None:
    found = mesh(web="tag:web", db="tag:db", ops="tag:ops")
    live = LivePolicy.of(load(TIERS), network(found))
    changes = live.update(network({2: found[2], 3: found[3]}))
    assert changes.peers[1].lost == {2}
    assert changes.filters == {2}
    assert live.index.filter(2) == ()


def test_a_new_primary_concerns_the_routers_of_its_prefix_alone() -> None:
    route = ip_network("10.1.0.0/16")
    found = mesh(web="tag:web", db="tag:db", ops="tag:ops")
    routed = {
        number: replace(node, routes=frozenset({route})) for number, node in found.items() if number < 3
    }
    state = network({**found, **routed})
    live = LivePolicy.of(load(TIERS), state)
    changes = live.update(replace(state, primaries={route: 2}))
    assert changes.routers == {1, 2}
    assert not changes.filters
    assert not changes.peers


def test_rules_about_everybody_are_one_object_for_all_nodes() -> None:
    found = mesh(web="tag:web", db="tag:db", ops="tag:ops")
    index = build_index(load("{}"), network(found))
    first = index.filter(1)
    assert all(index.filter(node_id)[0] is first[0] for node_id in found)
