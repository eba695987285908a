"""Map responses: what each receiver is told, and that shared parts are made once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from support.control_records import NOW, disco_key, key, node, snapshot
from warren_control import model
from warren_control.changes import Change, Patch, patched, whole
from warren_control.model import Node, Snapshot
from warren_control.netmap.builder import MapSettings, NetmapBuilder
from warren_control.netmap.views import OpenViews
from warren_control.relaymap import RelayMap
from warren_control.routes import parse_prefixes
from warren_wire.control import netmap as client
from warren_wire.control.messages import (
    DERPNode,
    DERPRegion,
    DNSConfig,
    Hostinfo,
    MapResponse,
    NetInfo,
    decode,
)

REGION = DERPRegion(
    region_id=900, region_code="home", nodes=(DERPNode(name="900a", host_name="home.example"),)
)


def builder(regions: dict[int, DERPRegion] | None = None) -> NetmapBuilder:
    relays = RelayMap({900: REGION} if regions is None else regions, 900)
    return NetmapBuilder(MapSettings("mesh.internal", DNSConfig(proxied=True), relays))


def full(known: Snapshot, viewer: Node) -> MapResponse:
    return decode(MapResponse, builder().full(OpenViews(known), viewer, NOW))


def delta(known: Snapshot, viewer: Node, change: Change) -> MapResponse | None:
    json = builder().delta(OpenViews(known), viewer, change, NOW)
    return None if json is None else decode(MapResponse, json)


def test_the_first_message_of_a_lone_node_has_no_peers_and_everything_else() -> None:
    response = full(snapshot(node(1)), node(1))
    assert response.peers is None
    assert response.node is not None
    assert response.node.name == "node1.mesh.internal."
    assert response.derp_map is not None
    assert response.control_time == NOW
    assert client.apply(client.EMPTY, response).problems == ()


def test_peers_always_have_hostinfo_online_and_addresses() -> None:
    response = full(snapshot(node(1), node(2, hostinfo=Hostinfo())), node(1))
    assert response.peers is not None
    [peer] = response.peers
    assert peer.hostinfo is not None
    assert peer.online is False
    assert peer.addresses == ("100.64.0.2/32", "fd7a:115c:a1e0::2/128")


def test_a_node_without_home_relay_is_looked_for_in_the_only_region() -> None:
    known = snapshot(node(1), node(2), node(3, net_info=NetInfo(preferred_derp=7)))
    response = full(known, node(1))
    assert [peer.home_derp for peer in response.peers or ()] == [900, 7]


def test_a_shared_route_is_in_one_peer_only_and_moves_when_that_one_goes() -> None:
    route = parse_prefixes(["10.1.0.0/16"])
    fields: dict[str, Any] = {"advertised_routes": route, "approved_routes": route}
    known = snapshot(node(1), node(2, online=True, **fields), node(3, online=True, **fields))

    def serving(current: Snapshot) -> list[int]:
        peers = full(current, node(1)).peers or ()
        return [peer.id for peer in peers if "10.1.0.0/16" in (peer.allowed_ips or ())]

    assert serving(known) == [2]
    after, moved = model.with_nodes(known, put=(node(2, online=False, **fields),))
    assert moved == {2, 3}
    assert serving(after) == [3]


def test_the_filter_names_own_addresses_and_approved_routes() -> None:
    fields: dict[str, Any] = {
        "advertised_routes": parse_prefixes(["10.1.0.0/16", "10.2.0.0/16"]),
        "approved_routes": parse_prefixes(["10.1.0.0/16"]),
    }
    gateway = node(1, **fields)
    rules = (full(snapshot(gateway), gateway).packet_filters or {})["base"]
    assert rules is not None
    assert [port.ip for port in rules[0].dst_ports or ()] == [
        "100.64.0.1",
        "fd7a:115c:a1e0::1",
        "10.1.0.0/16",
    ]


def test_a_disabled_node_sees_nobody_and_is_seen_by_nobody() -> None:
    off = node(2, disabled=True)
    known = snapshot(node(1), off)
    assert full(known, node(1)).peers is None
    seen = full(known, off)
    assert seen.peers is None
    assert seen.packet_filters == {"base": ()}
    assert seen.node is not None
    assert not seen.node.machine_authorized
    response = delta(known, node(1), whole(2))
    assert response is not None
    assert response.peers_removed == (2,)


def test_a_node_that_is_gone_is_removed() -> None:
    response = delta(snapshot(node(1)), node(1), whole(2))
    assert response is not None
    assert response.peers_removed == (2,)


def test_a_patch_carries_only_what_changed() -> None:
    known = snapshot(node(1), node(2, online=True, endpoints=("192.0.2.1:1",)))
    response = delta(known, node(1), patched(2, Patch.ENDPOINTS))
    assert response is not None
    [patch] = response.peers_changed_patch or ()
    assert (patch.node_id, patch.endpoints, patch.online, patch.key) == (2, ("192.0.2.1:1",), None, None)


def test_going_offline_carries_the_time() -> None:
    known = snapshot(node(1), node(2, online=False, last_seen=NOW))
    response = delta(known, node(1), patched(2, Patch.ONLINE))
    assert response is not None
    [patch] = response.peers_changed_patch or ()
    assert (patch.online, patch.last_seen) == (False, NOW)


def test_a_disco_key_never_travels_with_the_news_of_being_offline() -> None:
    known = snapshot(node(1), node(2, online=False, last_seen=NOW))
    response = delta(known, node(1), patched(2, Patch.ONLINE | Patch.DISCO))
    assert response is not None
    patches = response.peers_changed_patch or ()
    assert [(patch.disco_key, patch.online) for patch in patches] == [(disco_key(2), None), (None, False)]


def test_a_node_is_not_told_about_its_own_patches() -> None:
    assert delta(snapshot(node(1)), node(1), patched(1, Patch.ONLINE)) is None
    assert delta(snapshot(node(1)), node(1), whole(1)) is None


def test_a_node_whose_own_view_changed_gets_itself_with_addresses_and_its_filter() -> None:
    one = frozenset({1})
    response = delta(snapshot(node(1)), node(1), Change(selves=one, filters=one))
    assert response is not None
    assert response.node is not None
    assert response.node.addresses
    assert response.packet_filters is not None
    assert response.dns_config is None
    assert response.derp_map is None


def test_receivers_of_the_same_news_share_one_encoding() -> None:
    built = builder()
    views = OpenViews(snapshot(node(1), node(2), node(3)))
    first = built.delta(views, node(1), whole(3), NOW)
    assert built.delta(views, node(2), whole(3), NOW) is first
    assert built.delta(views, node(3), whole(3), NOW) is None


def test_a_changed_region_is_told_as_the_whole_set() -> None:
    built = builder()
    added = DERPRegion(region_id=901, region_code="office", nodes=(DERPNode(name="901a", host_name="b"),))
    known = model.with_regions(snapshot(node(1)), {901: added})
    json = built.delta(OpenViews(known), node(1), Change(derp_map=True), NOW)
    assert json is not None
    derp_map = decode(MapResponse, json).derp_map
    assert derp_map is not None
    assert list(derp_map.regions or {}) == [900, 901]


def test_a_deleted_node_is_told_that_it_has_expired() -> None:
    response = decode(MapResponse, builder().logged_out(node(1, deleted_at=NOW, expiry=NOW), NOW))
    assert response.node is not None
    assert response.node.key_expiry == NOW
    assert response.node.addresses


def test_keys_and_names_of_snapshots_are_found() -> None:
    known = snapshot(node(1), keys=(key("secret"),))
    assert known.key_by_hash(key("secret").secret_hash) == key("secret")
    assert model.without_key(known, key("secret").id).key_by_hash(key("secret").secret_hash) is None


@given(st.data())
def test_a_builder_that_followed_all_changes_says_what_a_new_one_says(data: st.DataObject) -> None:
    built, known, now = builder(), snapshot(node(1)), NOW
    route = parse_prefixes(["10.1.0.0/16"])
    fields = st.fixed_dictionaries(
        {},
        optional={
            "disabled": st.booleans(),
            "online": st.booleans(),
            "expiry": st.just(NOW + timedelta(hours=2)),
            "owner": st.integers(1, 3),
            "advertised_routes": st.just(route),
            "approved_routes": st.just(route),
        },
    )
    for _ in range(data.draw(st.integers(1, 5))):
        put = [node(number, **data.draw(fields)) for number in data.draw(st.sets(st.integers(1, 6)))]
        drop = [
            known.nodes[number]
            for number in data.draw(st.sets(st.integers(2, 6)))
            if number in known.nodes and number not in {one.id for one in put}
        ]
        known, _ = model.with_nodes(known, put=tuple(put), drop=tuple(drop))
        now += timedelta(hours=data.draw(st.integers(0, 2)))
        views = OpenViews(known)
        for viewer in known.nodes.values():
            told = decode(MapResponse, built.full(views, viewer, now))
            assert told == decode(MapResponse, builder().full(views, viewer, now))
            assert [peer.id for peer in told.peers or ()] == [peer.id for peer in views.visible(viewer)]
