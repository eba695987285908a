"""Addresses, names, routes and what hosts say: small decisions, one by one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.control_records import NOW, node, node_key, snapshot
from warren_control import hosts, model, names, routes
from warren_control.allocation import Pools, Used, allocate, pinned
from warren_control.errors import InvalidError, PoolExhaustedError
from warren_wire.control.messages import Hostinfo, NetInfo, Service
from warren_wire.errors import DecodeError

WIDE = Pools(IPv4Network("100.64.0.0/10"), IPv6Network("fd7a:115c:a1e0::/48"))


def used_of(*texts: str) -> Used:
    addresses = [ip_address(text) for text in texts]
    return Used(
        v4={int(one) for one in addresses if one.version == 4},
        v6={int(one) for one in addresses if one.version == 6},
    )


def test_addresses_of_a_pair_have_the_same_offset_where_they_can() -> None:
    used = used_of("100.64.0.1", "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2")
    assert allocate(WIDE, used) == (IPv4Address("100.64.0.2"), IPv6Address("fd7a:115c:a1e0::3"))


def test_reserved_addresses_are_passed_over() -> None:
    pools = Pools(IPv4Network("100.100.100.96/28"), IPv6Network("fd7a:115c:a1e0::50/124"))
    used = used_of(
        "100.100.100.97", "100.100.100.98", "100.100.100.99", "fd7a:115c:a1e0::51", "fd7a:115c:a1e0::52"
    )
    v4, v6 = allocate(pools, used)
    assert (str(v4), str(v6)) == ("100.100.100.101", "fd7a:115c:a1e0::55")


def test_an_empty_pool_is_an_error() -> None:
    pools = Pools(IPv4Network("100.64.0.0/30"), WIDE.v6)
    with pytest.raises(PoolExhaustedError, match=r"100\.64\.0\.0/30"):
        allocate(pools, used_of("100.64.0.1", "100.64.0.2"))


def test_the_last_free_address_is_found_wherever_the_search_begins() -> None:
    pool = IPv4Network("100.64.0.0/29")
    taken = {int(pool[place]) for place in range(8) if place != 3}
    for start in range(8):
        v4, _ = allocate(Pools(pool, None, pick=lambda _size, start=start: start), Used(v4=taken))  # type: ignore[misc]
        assert v4 == pool[3]


def test_the_address_of_a_deleted_node_rests_and_is_then_given_again() -> None:
    known = snapshot(node(1), node(2))
    after, _ = model.with_nodes(known, drop=(node(1, deleted_at=NOW),))
    [first] = node(1).addresses[:1]
    assert first in after.used_addresses(NOW)
    assert first not in after.used_addresses(NOW + model.ADDRESS_REST)
    assert allocate(WIDE, after.used_addresses(NOW))[0] == IPv4Address("100.64.0.3")
    assert allocate(WIDE, after.used_addresses(NOW + model.ADDRESS_REST))[0] == first
    later, _ = model.with_nodes(after, drop=(node(2, deleted_at=NOW + model.ADDRESS_REST),))
    assert set(later.resting) == {int(address) for address in node(2).addresses}


def test_a_node_that_changes_leaves_no_trace_in_any_index() -> None:
    known = snapshot(node(1), node(2))
    moved = node(1, name="other", node_key=node_key(9), v4=IPv4Address("100.64.0.9"), owner=7)
    after, _ = model.with_nodes(known, put=(moved,))
    back, _ = model.with_nodes(after, put=(node(1),))
    for name in ("nodes", "by_node_key", "by_machine_key", "by_name", "by_v4", "by_v6"):
        assert getattr(back, name) == getattr(known, name)
        assert len(getattr(after, name)) == 2
    assert after.node_by_key(node_key(1)) is None
    assert after.node_by_key(node_key(9)) == moved


def test_what_a_change_does_not_touch_is_not_copied() -> None:
    known = snapshot(node(1, id=1000), node(2))
    after, _ = model.with_nodes(known, put=(node(1, id=1000, endpoints=("192.0.2.1:1",)),))
    for name in ("by_node_key", "by_machine_key", "by_name", "by_v4", "by_v6", "removed", "resting"):
        assert getattr(after, name) is getattr(known, name)


def test_pinned_addresses_are_checked() -> None:
    assert pinned(["100.64.0.9"], WIDE, Used()) == (IPv4Address("100.64.0.9"), None)
    for bad in ("10.0.0.1", "100.100.100.100", "fd7a:115c:a1e0::53", "web", "100.64.0.0"):
        with pytest.raises(InvalidError):
            pinned([bad], WIDE, Used())
    with pytest.raises(InvalidError, match="another node"):
        pinned(["100.64.0.9"], WIDE, used_of("100.64.0.9"))


@pytest.mark.parametrize(
    ("hostname", "label"),
    [
        ("Web", "web"),
        ("web.office.example", "web"),
        ("Anna's Laptop", "anna-s-laptop"),
        ("--", "node"),
        ("", "node"),
        ("localhost", "node"),
        ("ünïcode", "n-code"),
        ("a" * 80, "a" * 63),
    ],
)
def test_labels_of_host_names(hostname: str, label: str) -> None:
    assert names.label_from(hostname) == label


@given(st.text(max_size=300))
def test_every_host_name_gives_a_valid_label(hostname: str) -> None:
    assert names.check_label(names.label_from(hostname)) == names.label_from(hostname)


@given(st.lists(st.sampled_from(["web", "web-1", "a" * 63, "a" * 62]), max_size=12))
def test_labels_stay_unique_and_valid(wanted: list[str]) -> None:
    taken: set[str] = set()
    for name in wanted:
        label = names.unique_label(name, taken)
        assert label not in taken
        taken.add(names.check_label(label))


@pytest.mark.parametrize("text", ["", "-web", "web-", "we_b", "a" * 64, "web.office"])
def test_names_given_by_people_are_checked(text: str) -> None:
    with pytest.raises(InvalidError):
        names.check_label(text)


A, B = routes.parse_prefix("10.1.0.0/16"), routes.parse_prefix("10.2.0.0/16")


def test_the_lowest_id_that_is_online_serves_a_prefix() -> None:
    assert routes.elect({A: {3: True, 1: False, 2: True}}, {}) == {A: 2}


def test_the_serving_node_keeps_a_prefix_while_it_is_online() -> None:
    assert routes.elect({A: {1: True, 2: True}}, {A: 2}) == {A: 2}


def test_a_prefix_moves_when_its_node_goes_offline_and_does_not_move_back() -> None:
    moved = routes.elect({A: {1: False, 2: True}}, {A: 1})
    assert moved == {A: 2}
    assert routes.elect({A: {1: True, 2: True}}, moved) == {A: 2}


def test_a_prefix_stays_where_it_is_when_nobody_is_online() -> None:
    assert routes.elect({A: {1: False, 2: False}, B: {2: False, 1: False}}, {A: 2}) == {A: 2, B: 1}


def test_exit_routes_are_served_by_every_node_and_elected_for_none() -> None:
    assert routes.elect({routes.DEFAULT_V4: {1: True}}, {}) == {}


def test_only_routes_inside_an_approver_are_approved() -> None:
    wide = routes.parse_prefixes(["10.0.0.0/8", "::/0"])
    inside = routes.parse_prefixes(["10.1.0.0/16", "192.0.2.0/24", "fd00::/64", "::/0", "0.0.0.0/0"])
    assert routes.auto_approved(inside, wide) == {A, routes.parse_prefix("fd00::/64")}


def test_bad_advertised_routes_are_left_out() -> None:
    assert routes.readable_prefixes(["10.1.0.1/16", "x", "10.1.0.0/16"]) == (A,)
    many = [f"10.{high}.{low}.0/24" for high in range(2) for low in range(256)]
    assert len(routes.readable_prefixes(many)) == routes.MAX_ROUTES


def test_endpoints_that_nobody_could_use_are_left_out() -> None:
    texts = [
        "[fe80::1]:1",
        "192.0.2.1:0",
        "nonsense",
        "192.0.2.1:7",
        "192.0.2.1:7",
        "127.0.0.1:7",
        "224.0.0.1:7",
    ]
    assert hosts.usable_endpoints(texts) == ("192.0.2.1:7",)
    assert len(hosts.usable_endpoints(f"192.0.2.1:{port}" for port in range(1, 200))) == hosts.MAX_ENDPOINTS


def test_a_report_without_home_relay_keeps_the_known_one() -> None:
    known = NetInfo(preferred_derp=900)
    assert hosts.usable_net_info(None, known) == known
    for nonsense in (0, -1, 2**40):
        kept = hosts.usable_net_info(NetInfo(preferred_derp=nonsense), known)
        assert kept is not None
        assert kept.preferred_derp == 900


def test_peers_see_only_members_of_known_type() -> None:
    shown = hosts.shown_hostinfo(
        Hostinfo(
            hostname="web",
            services=(Service(proto="peerapi4", port=1), Service(proto="peerapi6", port=70000)),
            extra={"Desktop": "no", "Container": True, "Distro": "debian", "Other": 1},
        )
    )
    assert [service.port for service in shown.services] == [1]
    assert shown.extra == {"Container": True, "Distro": "debian"}


def test_an_enormous_hostinfo_is_refused() -> None:
    with pytest.raises(DecodeError):
        hosts.usable_hostinfo(Hostinfo(hostname="web", extra={"Pad": "x" * 70000}))
