"""What a changed node means to others, and how changes merge."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.control_records import NOW, disco_key, node, node_key
from warren_control.changes import NOTHING, Change, Patch, merge, merge_all, patched, whole, whole_and_self
from warren_control.differences import difference, worth_storing
from warren_control.hub import GATHER_SECONDS, gather_seconds
from warren_control.routes import parse_prefixes
from warren_wire.control.messages import Hostinfo, NetInfo


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        ({}, NOTHING),
        ({"last_seen": NOW}, NOTHING),
        ({"endpoints": ("192.0.2.1:1",)}, patched(1, Patch.ENDPOINTS)),
        ({"disco_key": disco_key(9)}, patched(1, Patch.DISCO)),
        ({"node_key": node_key(9)}, patched(1, Patch.KEY)),
        ({"online": True}, patched(1, Patch.ONLINE)),
        ({"net_info": NetInfo(preferred_derp=900)}, patched(1, Patch.HOME)),
        ({"net_info": NetInfo(derp_latency={"900-v4": 0.1})}, NOTHING),
        ({"capability_version": 142}, patched(1, Patch.VERSION)),
        ({"online": True, "disco_key": disco_key(9)}, patched(1, Patch.ONLINE | Patch.DISCO)),
        ({"name": "web"}, whole_and_self(1)),
        ({"tags": ("tag:web",)}, whole_and_self(1)),
        ({"expiry": NOW + timedelta(days=1)}, whole_and_self(1)),
        ({"disabled": True}, whole_and_self(1)),
        ({"advertised_routes": parse_prefixes(["10.1.0.0/16"])}, NOTHING),
        ({"hostinfo": Hostinfo(hostname="node1", os="linux", extra={"Unknown": 1})}, NOTHING),
        ({"hostinfo": Hostinfo(hostname="node1", os="linux", os_version="2")}, whole(1)),
    ],
)
def test_a_change_is_told_as_little_as_possible(fields: dict[str, Any], change: Change) -> None:
    assert difference(node(1), node(1, **fields)) == change


def test_a_new_node_is_told_whole() -> None:
    assert difference(None, node(1)) == whole(1)


def test_endpoints_that_only_went_away_are_told_to_nobody() -> None:
    before = node(1, endpoints=("192.0.2.1:1", "192.0.2.1:2"))
    assert difference(before, node(1, endpoints=("192.0.2.1:1",))) == NOTHING


def test_a_route_in_force_is_told_whole() -> None:
    route = parse_prefixes(["10.1.0.0/16"])
    before = node(1, advertised_routes=route)
    assert difference(before, node(1, advertised_routes=route, approved_routes=route)) == whole_and_self(1)


def test_latencies_and_presence_are_not_worth_storing() -> None:
    assert not worth_storing(node(1), node(1, online=True, endpoints=("192.0.2.1:1",)))
    assert not worth_storing(node(1), node(1, net_info=NetInfo(derp_latency={"900-v4": 0.1})))
    assert worth_storing(node(1), node(1, disco_key=disco_key(2)))


def test_a_whole_node_swallows_its_patches() -> None:
    assert merge(patched(1, Patch.ONLINE), whole(1)) == whole(1)
    assert merge(whole(1), patched(1, Patch.ONLINE)) == whole(1)
    assert merge(patched(1, Patch.ONLINE), patched(1, Patch.HOME)) == patched(1, Patch.ONLINE | Patch.HOME)


ids = st.integers(1, 5)
changes = st.builds(
    # As they are made: a whole node has no patch beside it.
    Change,
    nodes=st.frozensets(ids, max_size=3),
    selves=st.frozensets(ids, max_size=3),
    patches=st.dictionaries(ids, st.sampled_from(list(Patch)), max_size=3),
    derp_map=st.booleans(),
    dns=st.booleans(),
).filter(lambda change: not change.nodes & change.patches.keys())


@given(st.lists(changes, max_size=6))
def test_merging_loses_nothing(burst: list[Change]) -> None:
    total = merge_all(burst)
    for change in burst:
        assert change.nodes <= total.nodes
        assert change.selves <= total.selves
        for number, patch in change.patches.items():
            assert number in total.nodes or patch in total.patches[number]
        assert total.derp_map >= change.derp_map
    assert not total.nodes & total.patches.keys()


def test_news_after_a_quiet_time_hardly_waits_and_unceasing_news_is_gathered() -> None:
    assert gather_seconds(1000, 60.0) == GATHER_SECONDS
    assert gather_seconds(10, 0.1) == GATHER_SECONDS
    assert gather_seconds(1000, 0.1) == 0.25
