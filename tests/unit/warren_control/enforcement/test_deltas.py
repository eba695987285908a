"""Under any policy and any changes, a client that folds deltas knows what a new stream would tell it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.control_records import NOW, node, snapshot
from warren_control import model
from warren_control.changes import NOTHING, Change, merge, whole_and_self
from warren_control.differences import difference
from warren_control.enforcement.approvals import approved_anew
from warren_control.enforcement.enforcer import Enforcer
from warren_control.model import Node, Snapshot, User
from warren_control.netmap.builder import MapSettings, NetmapBuilder
from warren_control.policy.load import load
from warren_control.relaymap import RelayMap
from warren_control.routes import parse_prefixes
from warren_wire.control import netmap as client
from warren_wire.control.messages import DNSConfig, MapResponse, decode
from warren_wire.control.messages import Node as MapNode

ROUTES: Final = parse_prefixes(["10.1.0.0/16", "0.0.0.0/0", "::/0"])
OPS: Final = User(2, "ops", "Ops", NOW, "ops@example.net", frozenset({"admin"}))
TAGS: Final[dict[str, Any]] = {"tag:a": [], "tag:b": []}
NODES: Final = tuple(range(1, 7))


def text(**sections: Any) -> str:
    return json.dumps({"tagOwners": TAGS, **sections})


def grant(src: str, dst: str, **more: Any) -> dict[str, Any]:
    return {"src": [src], "dst": [dst], **({"ip": ["*"]} | more)}


POLICIES: Final = (
    None,
    text(grants=[]),
    text(grants=[grant("autogroup:member", "tag:a", ip=["80"])]),
    text(grants=[grant("*", "*")], nodeAttrs=[{"target": ["tag:a"], "attr": ["disable-ipv4", "funnel"]}]),
    text(grants=[grant("tag:a", "tag:b"), grant("autogroup:admin", "*"), grant("*", "10.1.0.0/16")]),
    text(grants=[grant("autogroup:member", "autogroup:self"), grant("tag:a", "autogroup:internet")]),
    text(
        grants=[
            grant("ops@example.net", "10.1.0.0/16", via=["tag:a"]),
            grant("tag:b", "10.1.0.0/16", via=["tag:b"]),
        ],
        autoApprovers={"routes": {"10.0.0.0/8": ["tag:a", "tag:b"]}, "exitNode": ["tag:a"]},
    ),
    text(
        grants=[grant("ops@example.net", "tag:a", ip=[], app={"tailscale.com/cap/drive": [{}]})],
        ssh=[{"action": "accept", "src": ["ops@example.net"], "dst": ["tag:a"], "users": ["root"]}],
        randomizeClientPort=True,
    ),
    text(
        acls=[
            {"action": "accept", "src": ["100.64.0.2", "tag:b"], "dst": ["100.64.0.1:22", "10.1.0.0/16:*"]}
        ],
        ssh=[{"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["ops"]}],
    ),
    text(grants=[grant("*", "*")], disableIPv4=True, postures={"posture:x": ["node:os == 'linux'"]}),
)


class World:
    """A server without its transport, and a client for each node."""

    def __init__(self) -> None:
        known = snapshot(*(node(number, online=True, owner=1 + number % 2) for number in NODES))
        self.snapshot = model.with_users(known, {**known.users, 2: OPS})
        self.enforcer = Enforcer(self.snapshot, "https://control.example")
        self.builder = NetmapBuilder(MapSettings("mesh.internal", DNSConfig(), RelayMap({})))
        self.pending: dict[int, Change] = {}
        self.clients: dict[int, client.Netmap] = {}
        for number in NODES:
            self.connect(number)

    def connect(self, number: int) -> None:
        self.pending[number] = NOTHING
        self.clients[number] = client.apply(client.EMPTY, self.full(number))

    def full(self, number: int) -> MapResponse:
        viewer = self.snapshot.nodes[number]
        return decode(MapResponse, self.builder.full(self.enforcer.views, viewer, NOW))

    def publish(self, change: Change) -> None:
        for number, pending in self.pending.items():
            self.pending[number] = merge(pending, change)

    def take(self, number: int) -> None:
        """The client reads what is new."""
        viewer = self.snapshot.nodes.get(number)
        change, self.pending[number] = self.pending[number], NOTHING
        if viewer is None or change.empty:
            return
        json_text = self.builder.delta(self.enforcer.views, viewer, change, NOW)
        if json_text is not None:
            self.clients[number] = client.apply(self.clients[number], decode(MapResponse, json_text))

    def put_nodes(self, *nodes: Node, drop: tuple[Node, ...] = ()) -> None:
        before = self.snapshot
        after, moved = model.with_nodes(before, put=nodes, drop=drop)
        change = whole_and_self(*moved, *(one.id for one in drop))
        for one in nodes:
            change = merge(change, difference(before.nodes.get(one.id), one))
        self._swap(after, change, [one.id for one in (*nodes, *drop)])

    def put_user(self, user: User) -> None:
        self._swap(model.with_users(self.snapshot, {**self.snapshot.users, user.id: user}), NOTHING, [])

    def put_policy(self, policy: str | None) -> None:
        live = None if policy is None else self.enforcer.compile(load(policy, {"example.net"}), self.snapshot)
        change = self.enforcer.difference(live, self.snapshot.nodes)
        self.enforcer.put(live, self.snapshot)
        self.publish(change)
        self.put_nodes(*approved_anew(live, self.snapshot))

    def _swap(self, after: Snapshot, change: Change, touched: list[int]) -> None:
        follows = self.enforcer.follow(after, touched, change)
        self.snapshot = after
        self.publish(merge(change, follows))

    def check(self) -> None:
        for number in list(self.pending):
            self.take(number)
            if number in self.snapshot.nodes and not self.snapshot.nodes[number].disabled:
                told, fresh = self.clients[number], client.apply(client.EMPTY, self.full(number))
                assert peers_of(told) == peers_of(fresh), number
                assert told.packet_filters == fresh.packet_filters, number
                assert own_of(told) == own_of(fresh), number
                assert told.ssh_policy == fresh.ssh_policy, number


def own_of(told: client.Netmap) -> tuple[object, ...]:
    """What a node must know of itself; its own endpoints and presence it knows better."""
    own = told.self_node
    assert own is not None
    return own.addresses, own.allowed_ips, own.primary_routes, own.tags, own.user, own.cap_map


def peers_of(told: client.Netmap) -> dict[int, MapNode]:
    """When an online peer was last seen says nothing, and is never taken back."""
    return {number: msgspec.structs.replace(peer, last_seen=None) for number, peer in told.peers.items()}


ANY_NODE: Final = st.sampled_from(NODES)
STEPS: Final = st.one_of(
    st.tuples(st.just("policy"), st.sampled_from(POLICIES)),
    st.tuples(st.just("tags"), ANY_NODE, st.sampled_from([(), ("tag:a",), ("tag:b",), ("tag:a", "tag:b")])),
    st.tuples(
        st.just("routes"), ANY_NODE, st.sampled_from([(), ROUTES[:1], ROUTES[1:], ROUTES]), st.booleans()
    ),
    st.tuples(st.just("online"), ANY_NODE, st.booleans()),
    st.tuples(st.just("disabled"), ANY_NODE, st.booleans()),
    st.tuples(st.just("user"), st.sampled_from(["", "ops@example.net"]), st.booleans()),
    st.tuples(st.just("gone"), ANY_NODE),
    st.tuples(st.just("endpoint"), ANY_NODE, st.integers(1, 3)),
    st.tuples(st.just("take"), ANY_NODE),
)


def apply_step(world: World, step: tuple[Any, ...]) -> None:
    kind, *rest = step
    if kind == "policy":
        world.put_policy(rest[0])
    elif kind == "user":
        world.put_user(replace(OPS, email=rest[0], roles=frozenset({"admin"} if rest[1] else ())))
    elif kind == "take":
        if rest[0] in world.pending:
            world.take(rest[0])
    else:
        _change_node(world, kind, *rest)


def _change_node(world: World, kind: str, number: int, *values: Any) -> None:
    known = world.snapshot.nodes.get(number)
    if known is None:
        world.put_nodes(node(number, online=True))
        world.connect(number)
    elif kind == "gone":
        world.put_nodes(drop=(replace(known, deleted_at=NOW),))
        del world.pending[number]
    elif kind == "routes":
        approved = values[0] if values[1] else ()
        world.put_nodes(replace(known, advertised_routes=values[0], approved_routes=approved))
    elif kind == "endpoint":
        world.put_nodes(replace(known, endpoints=(f"192.0.2.{values[0]}:1",)))
    elif kind == "online":
        world.put_nodes(replace(known, online=values[0], last_seen=NOW))
    else:
        world.put_nodes(replace(known, **{kind: values[0]}))
        if kind == "disabled" and known.disabled != values[0]:
            # Its view changes as a whole, so the server makes it start a new stream.
            world.connect(number)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=1, max_size=14))
def test_deltas_lead_where_a_new_stream_would(steps: list[tuple[Any, ...]]) -> None:
    world = World()
    for step in steps:
        apply_step(world, step)
    world.check()
