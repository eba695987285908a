"""The policy in force follows snapshots: who is told what, and what costs nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from support.control_records import NOW, node, snapshot
from warren_control import model
from warren_control.changes import MAX_RECHECKED, NOTHING, Change, merge, whole_and_self
from warren_control.enforcement.enforcer import Enforcer
from warren_control.enforcement.network import attributes_of, followed, network_of
from warren_control.model import Node, Snapshot, User
from warren_control.netmap.views import PeerView
from warren_control.policy.live import LivePolicy
from warren_control.policy.load import load
from warren_control.routes import parse_prefixes
from warren_wire.control.messages import Hostinfo

OPS = User(2, "ops", "Ops", NOW, "ops@example.net", frozenset({"admin"}))


def policy(*grants: tuple[str, str, str], **sections: Any) -> str:
    rules = [{"src": [src], "dst": [dst], "ip": [ip]} for src, dst, ip in grants]
    return json.dumps({"tagOwners": {"tag:web": [], "tag:lab": []}, "grants": rules, **sections})


TO_WEB = policy(("autogroup:member", "tag:web", "80"))


class World:
    """An enforcer over a snapshot that changes."""

    def __init__(self, *nodes: Node, users: tuple[User, ...] = (OPS,)) -> None:
        known = snapshot(*nodes)
        self.snapshot = model.with_users(known, {**known.users, **{user.id: user for user in users}})
        self.enforcer = Enforcer(self.snapshot, "https://control.example")

    def put(self, text: str | None) -> Change:
        live = None if text is None else self.enforcer.compile(load(text, {"example.net"}), self.snapshot)
        change = self.enforcer.difference(live, self.snapshot.nodes)
        self.enforcer.put(live, self.snapshot)
        return change

    def change(self, *nodes: Node, drop: tuple[Node, ...] = (), change: Change = NOTHING) -> Change:
        after, _ = model.with_nodes(self.snapshot, put=nodes, drop=drop)
        return self._follow(after, [one.id for one in (*nodes, *drop)], change)

    def change_user(self, user: User) -> Change:
        return self._follow(
            model.with_users(self.snapshot, {**self.snapshot.users, user.id: user}), [], NOTHING
        )

    def _follow(self, after: Snapshot, touched: list[int], change: Change) -> Change:
        follows = self.enforcer.follow(after, touched, change)
        self.snapshot = after
        return follows

    def node(self, number: int) -> Node:
        return self.snapshot.nodes[number]

    def sees(self, one: int, other: int) -> bool:
        return self.enforcer.views.sees(self.node(one), self.node(other))


def test_without_a_policy_a_node_that_changed_is_told_its_filter_and_nothing_more() -> None:
    world = World(node(1), node(2))
    change = world.change(replace(node(1), tags=("tag:web",)), change=whole_and_self(1))
    assert change == Change(filters=frozenset({1}))
    assert world.enforcer.views.uniform
    assert world.enforcer.index is None


def test_endpoints_presence_and_names_recompile_nothing() -> None:
    world = World(node(1), node(2, tags=("tag:web",)))
    world.put(TO_WEB)
    index = world.enforcer.index
    moved = replace(world.node(1), endpoints=("192.0.2.1:1",), online=True, name="other", last_seen=NOW)
    assert world.change(moved).empty
    assert world.enforcer.index is index
    assert world.enforcer.views.snapshot is world.snapshot


def test_hostinfo_matters_only_to_a_policy_with_postures() -> None:
    postures = {"postures": {"posture:new": ["node:tsVersion >= '1.90'"]}}
    old, new = (Hostinfo(hostname="a", os="linux", ipn_version=text) for text in ("1.80.3", "1.92.1-tabc"))
    world = World(node(1, hostinfo=old), node(2, tags=("tag:web",)))
    world.put(TO_WEB)
    assert world.change(replace(world.node(1), hostinfo=new)).empty
    world.change(replace(world.node(1), hostinfo=old))
    world.put(policy(("autogroup:member", "tag:web", "80"), defaultSrcPosture=["posture:new"], **postures))
    assert not world.sees(1, 2)
    change = world.change(replace(world.node(1), hostinfo=new))
    assert world.sees(1, 2)
    assert 2 in change.filters


def test_a_tag_tells_whoever_loses_or_gains_the_node_and_those_whose_filters_it_is_in() -> None:
    world = World(node(1), node(2), node(3, tags=("tag:lab",)))
    world.put(TO_WEB)
    change = world.change(replace(world.node(2), tags=("tag:web",)))
    assert change.filters == {2}
    assert change.afresh == {2}
    assert 2 in change.nodes
    assert change.recheck == {}
    change = world.change(replace(world.node(2), tags=("tag:lab",)))
    assert change.recheck == {1: frozenset({2})}
    assert not world.sees(1, 2)


def test_a_node_that_joins_is_told_nothing_since_its_stream_begins_with_everything() -> None:
    world = World(node(1, tags=("tag:web",)), node(2))
    world.put(TO_WEB)
    change = world.change(node(3))
    assert 3 in change.nodes
    assert change.filters == {1}
    assert 3 not in change.filters | change.selves | change.afresh | change.ssh


def test_a_node_that_goes_is_removed_at_those_who_saw_it_alone() -> None:
    world = World(node(1, tags=("tag:web",)), node(2), node(3))
    world.put(TO_WEB)
    change = world.change(drop=(world.node(2),))
    assert change.recheck == {1: frozenset({2})}
    disabled = world.change(replace(world.node(1), disabled=True))
    assert disabled.recheck == {3: frozenset({1})}
    assert world.enforcer.views.visible(world.node(1)) == []
    assert world.enforcer.views.packet_filter(world.node(1)) == ()


def test_roles_and_addresses_of_users_count_at_once() -> None:
    world = World(node(1, owner=2), node(2, tags=("tag:web",)))
    world.put(policy(("autogroup:admin", "tag:web", "22")))
    assert world.sees(1, 2)
    assert "https://tailscale.com/cap/is-admin" in world.enforcer.views.capabilities(world.node(1))
    change = world.change_user(replace(OPS, roles=frozenset()))
    assert not world.sees(1, 2)
    assert 1 in change.selves
    assert 2 in change.filters
    assert change.afresh | change.recheck.keys() >= {1, 2}


def test_another_policy_tells_those_for_whom_it_differs() -> None:
    world = World(node(1, tags=("tag:web",)), node(2), node(3, tags=("tag:lab",)), node(4, tags=("tag:lab",)))
    first = world.put(TO_WEB)
    assert first.filters == {1, 2, 3, 4}
    second = world.put(policy(("autogroup:member", "tag:web", "81")))
    assert second == Change(filters=frozenset({1}), recheck={})
    third = world.put(policy(("autogroup:member", "tag:web", "81"), ("tag:lab", "tag:lab", "22")))
    assert third.filters == {3, 4}
    assert third.recheck == {3: frozenset({4}), 4: frozenset({3})}
    attributes = [{"target": ["tag:web"], "attr": ["funnel"]}]
    assert world.put(policy(("autogroup:member", "tag:web", "81"), nodeAttrs=attributes)).selves == {1}
    assert world.put(None).filters == {1, 2, 3, 4}
    assert world.enforcer.views.uniform


def test_a_route_that_moves_shows_the_viewer_another_router() -> None:
    route = parse_prefixes(["10.1.0.0/16"])
    routers = [
        node(number, online=True, tags=("tag:lab",), advertised_routes=route, approved_routes=route)
        for number in (2, 3)
    ]
    world = World(node(1), *routers)
    world.put(policy(("autogroup:member", "10.1.0.0/16", "*")))
    views = world.enforcer.views
    assert views.peer(world.node(1), world.node(2)) == PeerView(route)
    change = world.change(replace(world.node(2), online=False))
    assert {2, 3} <= change.nodes
    assert world.enforcer.views.peer(world.node(1), world.node(3)) == PeerView(route)
    assert world.enforcer.views.peer(world.node(1), world.node(2)) == PeerView()


def test_a_policy_that_cannot_follow_is_compiled_anew_and_told_to_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(node(1), node(2, tags=("tag:web",)))
    world.put(TO_WEB)

    def broken(*_arguments: object) -> None:
        raise RuntimeError("it cannot follow")

    monkeypatch.setattr(LivePolicy, "update", broken)
    change = world.change(node(3))
    assert change.filters == change.afresh == {1, 2, 3}
    assert world.sees(3, 2)


def test_a_change_of_one_node_makes_one_entry_anew() -> None:
    known = snapshot(node(1), node(2), node(3))
    before = network_of(known, ("example.net",), attributes=False)
    after, _ = model.with_nodes(known, put=(replace(node(2), tags=("tag:web",)),))
    network = followed(before, known, after, [2], attributes=False)
    assert [one for one in (1, 2, 3) if network.nodes[one] is not before.nodes[one]] == [2]
    assert network.users is before.users
    assert followed(before, known, known, [1, 2, 3], attributes=False) is before


@pytest.mark.parametrize(
    ("version", "track"), [("1.80.3-tabc-gdef", "stable"), ("1.81.22", "unstable"), ("1.92", "stable")]
)
def test_attributes_come_from_what_a_node_says_of_itself(version: str, track: str) -> None:
    found = attributes_of(Hostinfo(os="macOS", os_version="15.1", ipn_version=version))
    assert found == {
        "node:os": "macos",
        "node:osVersion": "15.1",
        "node:tsVersion": version.partition("-")[0],
        "node:tsReleaseTrack": track,
    }
    assert attributes_of(Hostinfo()) == {}


def test_what_is_looked_at_again_stays_bounded() -> None:
    few = Change(recheck={1: frozenset(range(10)), 2: frozenset({3})})
    many = Change(recheck={1: frozenset(range(5, 6 + MAX_RECHECKED))})
    both = merge(few, many)
    assert both.afresh == {1}
    assert both.recheck == {2: frozenset({3})}
    assert merge(both, Change(recheck={1: frozenset({9})})).recheck == {2: frozenset({3})}
