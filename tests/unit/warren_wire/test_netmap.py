"""What a client knows after each kind of message."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from warren_wire.control.map_reader import Problem, read_map_response
from warren_wire.control.messages import (
    DERPHomeParams,
    DERPMap,
    DERPNode,
    DERPRegion,
    DisplayMessage,
    DNSConfig,
    FilterRule,
    Hostinfo,
    MapResponse,
    Node,
    PeerChange,
    SSHPolicy,
    UserProfile,
    decode,
    encode,
)
from warren_wire.control.netmap import EMPTY, Netmap, apply, snapshot
from warren_wire.errors import DecodeError, RemoteProtocolError
from warren_wire.keys import DiscoPublic, NodePublic

EARLIER = datetime(2026, 8, 10, 11, tzinfo=UTC)
NOW = datetime(2026, 8, 10, 12, tzinfo=UTC)
LATER = datetime(2026, 8, 10, 13, tzinfo=UTC)

SELF = Node(
    id=1,
    name="web.mesh.internal.",
    key=NodePublic(bytes([1]) * 32),
    addresses=("100.64.0.1/32",),
    machine_authorized=True,
)
REGION = DERPRegion(
    region_id=900, region_code="home", nodes=(DERPNode(name="900a", host_name="203.0.113.10"),)
)


def peer(node_id: int, **values: object) -> Node:
    plain = Node(
        id=node_id,
        key=NodePublic(bytes([node_id]) * 32),
        disco_key=disco(node_id),
        addresses=(f"100.64.0.{node_id}/32",),
        hostinfo=Hostinfo(),
        online=True,
    )
    return structs.replace(plain, **values)


def disco(number: int) -> DiscoPublic:
    return DiscoPublic(bytes([number]) * 32)


def started(*peers: Node) -> Netmap:
    return apply(
        EMPTY,
        MapResponse(node=SELF, peers=peers, derp_map=DERPMap(regions={900: REGION}), control_time=NOW),
    )


def ids(netmap: Netmap) -> set[int]:
    return set(netmap.peers)


def reports(netmap: Netmap) -> list[str]:
    return [problem.where for problem in netmap.problems]


# The first message.


def test_a_stream_has_to_begin_with_the_self_node() -> None:
    with pytest.raises(RemoteProtocolError):
        apply(EMPTY, MapResponse(peers=(peer(2),)))


def test_a_keep_alive_may_come_before_it() -> None:
    assert apply(EMPTY, MapResponse(keep_alive=True)) == EMPTY


def test_a_keep_alive_changes_nothing_but_the_clock() -> None:
    netmap = started(peer(2))
    kept = apply(netmap, MapResponse(keep_alive=True, peers_removed=(2,), control_time=LATER))
    assert kept.peers == netmap.peers
    assert kept.control_time == LATER


def test_an_empty_message_changes_nothing() -> None:
    netmap = started(peer(2), peer(3))
    assert apply(netmap, MapResponse()) == netmap


# Lists of peers.


def test_an_empty_list_of_peers_means_unchanged() -> None:
    assert ids(apply(started(peer(2)), MapResponse(peers=()))) == {2}


def test_a_list_of_peers_replaces_all_of_them() -> None:
    assert ids(apply(started(peer(2), peer(3)), MapResponse(peers=(peer(4),)))) == {4}


def test_other_peer_fields_do_not_count_beside_a_list() -> None:
    netmap = apply(
        started(peer(2)), MapResponse(peers=(peer(3),), peers_changed=(peer(4),), peers_removed=(3,))
    )
    assert ids(netmap) == {3}


def test_removal_is_the_way_to_no_peers() -> None:
    assert ids(apply(started(peer(2)), MapResponse(peers_removed=(2, 77)))) == set()


def test_a_changed_peer_is_added_or_replaced_whole() -> None:
    netmap = apply(started(peer(2, tags=("tag:web",))), MapResponse(peers_changed=(peer(2), peer(3))))
    assert ids(netmap) == {2, 3}
    assert netmap.peers[2].tags is None


def test_a_peer_is_removed_before_its_successor_is_added() -> None:
    successor = peer(3, key=peer(2).key)
    netmap = apply(started(peer(2)), MapResponse(peers_removed=(2,), peers_changed=(successor,)))
    assert ids(netmap) == {3}
    assert netmap.problems == ()


def test_online_counts_also_when_it_comes_late() -> None:
    netmap = apply(started(peer(2, online=None)), MapResponse(peers_changed=(peer(2, online=True),)))
    assert netmap.peers[2].online is True


# Presence.


def test_presence_changes_by_id() -> None:
    netmap = apply(started(peer(2), peer(3)), MapResponse(online_change={2: False}))
    assert netmap.peers[2].online is False
    assert netmap.peers[3].online is True


def test_a_peer_that_was_seen_gets_the_time_of_now() -> None:
    netmap = apply(started(peer(2)), MapResponse(peer_seen_change={2: True}), now=LATER)
    assert netmap.peers[2].last_seen == LATER


def test_without_a_clock_it_gets_the_time_of_the_server() -> None:
    netmap = apply(started(peer(2)), MapResponse(peer_seen_change={2: True}))
    assert netmap.peers[2].last_seen == NOW


def test_a_peer_that_is_not_seen_loses_its_time() -> None:
    netmap = apply(started(peer(2, last_seen=NOW)), MapResponse(peer_seen_change={2: False}))
    assert netmap.peers[2].last_seen is None


# Patches.


def patched(node: Node, **values: object) -> Node:
    change = structs.replace(PeerChange(node_id=node.id), **values)
    return apply(started(node), MapResponse(peers_changed_patch=(change,))).peers[node.id]


def test_a_patch_changes_only_what_it_carries() -> None:
    assert patched(peer(2, home_derp=900, cap=130)) == patched(peer(2, home_derp=900, cap=130), cap=0)
    assert patched(peer(2, home_derp=900), derp_region=901).home_derp == 901
    assert patched(peer(2), cap=145).cap == 145
    assert patched(peer(2, cap_map={"a": None}), cap_map={"b": None}).cap_map == {"b": None}
    assert patched(peer(2), online=False).online is False
    assert patched(peer(2), last_seen=LATER).last_seen == LATER


def test_a_patch_sets_and_clears_endpoints() -> None:
    assert patched(peer(2), endpoints=("192.0.2.1:41641",)).endpoints == ("192.0.2.1:41641",)
    assert patched(peer(2, endpoints=("192.0.2.1:41641",)), endpoints=()).endpoints == ()


def test_a_patch_with_a_key_is_a_rotation() -> None:
    new_key = NodePublic(bytes([99]) * 32)
    assert patched(peer(2), key=new_key) == structs.replace(patched(peer(2)), key=new_key)


def test_a_patch_with_the_zero_time_takes_the_expiry_away() -> None:
    zero = datetime(1, 1, 1, tzinfo=UTC)
    assert patched(peer(2, key_expiry=NOW), key_expiry=zero).key_expiry is None
    assert patched(peer(2), key_expiry=LATER).key_expiry == LATER


def test_a_patch_of_an_unknown_peer_is_reported() -> None:
    netmap = apply(started(peer(2)), MapResponse(peers_changed_patch=(PeerChange(node_id=9, online=True),)))
    assert ids(netmap) == {2}
    assert reports(netmap) == ["peer 9"]


def test_a_disco_key_of_an_offline_peer_not_seen_since_is_discarded_with_its_patch() -> None:
    old = peer(2, last_seen=NOW)
    for last_seen in (EARLIER, NOW):
        node = patched(old, disco_key=disco(99), online=False, last_seen=last_seen, cap=145)
        assert node == patched(old)


def test_a_disco_key_of_a_peer_that_may_have_made_one_is_taken() -> None:
    old = peer(2, last_seen=NOW)
    assert patched(old, disco_key=disco(99), online=False, last_seen=LATER).disco_key == disco(99)
    assert patched(old, disco_key=disco(99), online=True, last_seen=EARLIER).disco_key == disco(99)
    assert patched(old, disco_key=disco(99)).disco_key == disco(99)
    assert patched(peer(2), disco_key=disco(99), online=False, last_seen=EARLIER).disco_key == disco(99)


@pytest.mark.parametrize("field", ["peers", "peers_changed"])
def test_the_same_goes_for_whole_nodes(field: str) -> None:
    netmap = started(peer(2, last_seen=NOW))

    def key_after(**values: object) -> DiscoPublic | None:
        message = structs.replace(MapResponse(), **{field: (peer(2, disco_key=disco(99), **values),)})
        return apply(netmap, message).peers[2].disco_key

    assert key_after(online=False, last_seen=EARLIER) == disco(2)
    assert key_after(online=False, last_seen=LATER) == disco(99)
    assert key_after(online=True, last_seen=EARLIER) == disco(99)


# Nodes as they come out.


def test_missing_allowed_ips_are_the_addresses() -> None:
    assert started(peer(2)).peers[2].allowed_ips == ("100.64.0.2/32",)


def test_empty_allowed_ips_are_none() -> None:
    assert started(peer(2, allowed_ips=())).peers[2].allowed_ips == ()


@pytest.mark.parametrize(
    ("legacy", "home_derp", "expected"),
    [
        ("127.3.3.40:900", 0, 900),
        ("127.3.3.40:900", 901, 901),
        ("127.3.3.40:", 0, 0),
        ("127.3.3.40:home", 0, 0),
        ("192.0.2.1:900", 0, 0),
    ],
)
def test_a_legacy_home_relay_counts_only_without_a_new_one(
    legacy: str, home_derp: int, expected: int
) -> None:
    assert started(peer(2, derp=legacy, home_derp=home_derp)).peers[2].home_derp == expected


def test_a_self_node_without_addresses_keeps_the_old_ones() -> None:
    netmap = apply(started(), MapResponse(node=structs.replace(SELF, addresses=None, tags=("tag:web",))))
    assert netmap.self_node is not None
    assert netmap.self_node.addresses == ("100.64.0.1/32",)
    assert netmap.self_node.tags == ("tag:web",)
    assert reports(netmap) == ["self node"]


# Broken entries.


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(peer(3, key=NodePublic.zero()), id="no key"),
        pytest.param(peer(3, addresses=("100.64.0.3/33",)), id="no prefix"),
        pytest.param(peer(3, allowed_ips=("10.0.0.1/8",)), id="host bits"),
        pytest.param(peer(3, key=peer(2).key), id="key of another peer"),
        pytest.param(peer(3, key=SELF.key), id="key of the self node"),
        pytest.param(peer(1, key=peer(3).key), id="ID of the self node"),
        pytest.param(peer(2, key=peer(3).key), id="ID of another peer"),
    ],
)
def test_a_broken_peer_is_left_out_and_reported(broken: Node) -> None:
    netmap = started(peer(2), broken, peer(4))
    assert netmap.peers == started(peer(2), peer(4)).peers
    assert reports(netmap) == [f"peer {broken.id}"]


def test_a_broken_endpoint_costs_that_endpoint() -> None:
    netmap = started(peer(2, endpoints=("192.0.2.1:41641", "[fe80::1%eth0]:41641", "web:41641")))
    assert netmap.peers[2].endpoints == ("192.0.2.1:41641",)
    assert reports(netmap) == ["endpoint of peer 2", "endpoint of peer 2"]


def test_problems_are_those_of_the_last_message() -> None:
    netmap = apply(started(peer(2, endpoints=("web",))), MapResponse())
    assert netmap.problems == ()


def test_a_broken_self_node_does_not_replace_a_good_one() -> None:
    netmap = apply(started(peer(2)), MapResponse(node=structs.replace(SELF, addresses=("here",))))
    assert netmap.self_node == started().self_node
    with pytest.raises(RemoteProtocolError):
        apply(EMPTY, MapResponse(node=structs.replace(SELF, addresses=("here",))))


def test_a_patch_cannot_take_the_key_of_another_peer() -> None:
    change = PeerChange(node_id=3, key=peer(2).key)
    netmap = apply(started(peer(2), peer(3)), MapResponse(peers_changed_patch=(change,)))
    assert netmap.peers[3].key == peer(3).key
    assert reports(netmap) == ["peer 3"]


def test_entries_that_are_no_node_at_all_are_left_out_while_reading() -> None:
    document = (
        b'{"Node":%s,"Peers":[%s,{"ID":3,"Key":""},7,{"ID":5,"Key":"nodekey:xyz"}],"Unknown":[1],'
        b'"DNSConfig":7,"DERPMap":{"Regions":{"900":{"RegionID":900},"901":7,"902":null}},'
        b'"PacketFilters":{"base":[{"SrcIPs":["*"]},{"SrcIPs":7}],"more":7},'
        b'"PeersChangedPatch":[{"NodeID":2,"Online":true},{"NodeID":8,"Online":7}],"Domain":"mesh"}'
    ) % (encode(SELF), encode(peer(2)))
    read = read_map_response(document)
    assert [problem.where for problem in read.problems] == [
        "peer 3",
        "peer at position 2",
        "peer 5",
        "DNSConfig",
        "relay region 901",
        "rule of filter 'base' at position 1",
        "filter 'more'",
        "patch of peer 8",
    ]
    assert read.response.peers == (peer(2),)
    assert read.response.derp_map == DERPMap(regions={900: DERPRegion(region_id=900), 902: None})
    assert read.response.packet_filters == {"base": (FilterRule(src_ips=("*",)),), "more": ()}
    assert read.response.domain == "mesh"


def test_reading_tells_absent_from_null_and_empty() -> None:
    assert read_map_response(b'{"Peers":null,"PacketFilters":{"a":null,"b":[]},"DERPMap":null}').response == (
        MapResponse(packet_filters={"a": None, "b": ()})
    )
    assert read_map_response(b'{"KeepAlive":true}').response == MapResponse(keep_alive=True)


@pytest.mark.parametrize("document", [b"", b"[]", b"null", b"7", b'{"Node"', b"\xff", b"[" * 100_000])
def test_a_document_that_is_no_object_is_an_error(document: bytes) -> None:
    with pytest.raises(DecodeError):
        read_map_response(document)


# The rest of a message.


def test_the_relay_map_is_replaced_region_by_region_or_not_at_all() -> None:
    netmap = started()
    other = DERPRegion(region_id=901)
    assert netmap.derp_map == DERPMap(regions={900: REGION})
    assert apply(netmap, MapResponse(derp_map=DERPMap())).derp_map == netmap.derp_map
    replaced = apply(netmap, MapResponse(derp_map=DERPMap(regions={901: other, 902: None})))
    assert replaced.derp_map == DERPMap(regions={901: other})


def test_home_scores_change_without_the_regions() -> None:
    def scored(netmap: Netmap, scores: dict[int, float] | None) -> Netmap:
        params = DERPHomeParams(region_score=scores)
        return apply(netmap, MapResponse(derp_map=DERPMap(home_params=params)))

    netmap = scored(started(), {900: 0.5})
    assert netmap.derp_map == DERPMap(
        regions={900: REGION}, home_params=DERPHomeParams(region_score={900: 0.5})
    )
    assert scored(netmap, None).derp_map == netmap.derp_map
    assert scored(netmap, {}).derp_map == DERPMap(
        regions={900: REGION}, home_params=DERPHomeParams(region_score={})
    )


RULE = FilterRule(src_ips=("*",))
OTHER_RULE = FilterRule(src_ips=("100.64.0.2",))


def filtered(*messages: MapResponse) -> Netmap:
    netmap = started()
    for message in messages:
        netmap = apply(netmap, message)
    return netmap


def test_no_filter_allows_nothing() -> None:
    assert started().rules == ()


def test_the_old_filter_field_is_the_base_chunk() -> None:
    assert filtered(MapResponse(packet_filter=(RULE,))).packet_filters == {"base": (RULE,)}
    blocked = filtered(MapResponse(packet_filter=(RULE,)), MapResponse(packet_filter=()))
    assert blocked.packet_filters == {"base": ()}


def test_chunks_are_patched_by_name() -> None:
    netmap = filtered(MapResponse(packet_filters={"b": (RULE,), "a": (OTHER_RULE,)}))
    assert netmap.rules == (OTHER_RULE, RULE)
    assert apply(netmap, MapResponse(packet_filters={"b": None})).rules == (OTHER_RULE,)
    assert apply(netmap, MapResponse(packet_filters={"*": None, "c": (RULE,)})).packet_filters == {
        "c": (RULE,)
    }
    assert apply(netmap, MapResponse(packet_filters={})).packet_filters == netmap.packet_filters


def test_dns_is_replaced_whole() -> None:
    netmap = filtered(MapResponse(dns_config=DNSConfig(proxied=True, domains=("mesh.internal",))))
    assert apply(netmap, MapResponse()).dns == netmap.dns
    assert apply(netmap, MapResponse(dns_config=DNSConfig())).dns == DNSConfig()


def test_an_empty_domain_means_unchanged() -> None:
    netmap = filtered(MapResponse(domain="mesh"), MapResponse(domain=""))
    assert netmap.domain == "mesh"


def test_profiles_are_added_and_never_removed() -> None:
    alice, bob = UserProfile(id=10, login_name="alice"), UserProfile(id=11, login_name="bob")
    renamed = UserProfile(id=10, login_name="alice@example.net")
    netmap = filtered(MapResponse(user_profiles=(alice,)), MapResponse(user_profiles=(bob, renamed)))
    assert netmap.user_profiles == {10: renamed, 11: bob}
    assert apply(netmap, MapResponse(user_profiles=())).user_profiles == netmap.user_profiles


def test_nobody_may_ssh_is_not_the_same_as_unchanged() -> None:
    netmap = filtered(MapResponse(ssh_policy=SSHPolicy(rules=({"action": {"accept": True}},))))
    assert apply(netmap, MapResponse()).ssh_policy == netmap.ssh_policy
    assert apply(netmap, MapResponse(ssh_policy=SSHPolicy(rules=()))).ssh_policy == SSHPolicy(rules=())


def test_health_and_messages() -> None:
    message = DisplayMessage(title="Relay is far")
    netmap = filtered(MapResponse(health=("slow",), display_messages={"a": message, "b": message}))
    assert apply(netmap, MapResponse()).health == ("slow",)
    assert apply(netmap, MapResponse(health=())).health == ()
    assert apply(netmap, MapResponse(display_messages={"a": None})).display_messages == {"b": message}
    assert apply(netmap, MapResponse(display_messages={})).display_messages == netmap.display_messages
    cleared = apply(netmap, MapResponse(display_messages={"*": None, "c": message}))
    assert cleared.display_messages == {"c": message}


def test_a_snapshot_gives_the_same_picture_again() -> None:
    netmap = filtered(
        MapResponse(
            peers_changed=(peer(2), peer(3)),
            packet_filters={"base": (RULE,)},
            dns_config=DNSConfig(proxied=True),
            domain="mesh",
            user_profiles=(UserProfile(id=10),),
            health=("slow",),
        )
    )
    stored = encode(snapshot(netmap))
    assert apply(EMPTY, decode(MapResponse, stored)) == netmap
    assert apply(EMPTY, read_map_response(stored).response) == netmap


def test_the_old_picture_is_not_touched() -> None:
    netmap = started(peer(2))
    apply(netmap, MapResponse(peers_removed=(2,), packet_filters={"base": (RULE,)}, online_change={2: False}))
    assert netmap == started(peer(2))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.sampled_from(
        ["", "10.0.0.0/8", "nodekey:" + "1" * 64, "0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]
    ),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["ID", "NodeID", "Key", "Addresses", "AllowedIPs", "Hostinfo", "Regions", "1", "*"]
            ),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)
fields = st.sampled_from(sorted({f.encode_name for f in structs.fields(MapResponse)} - {"KeepAlive"}))


@given(st.dictionaries(fields, json_values, max_size=6))
def test_any_object_is_read_and_applied_as_far_as_it_goes(document: dict[str, object]) -> None:
    read = read_map_response(encode(document))
    netmap = apply(started(peer(2)), read.response)
    assert netmap.self_node is not None
    assert all(isinstance(problem, Problem) for problem in (*read.problems, *netmap.problems))


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_map_response(data)
    except DecodeError:
        pass
