"""Members read from a network map."""

from __future__ import annotations

from support.members import networks, node_key
from warren_agent.member import MAX_ROUTES, member_of, self_of
from warren_agent.names import relay_hosts
from warren_agent.requirements import missing_capabilities
from warren_agent.status import find_member
from warren_wire.control.messages import DERPMap, DERPNode, DERPRegion, Node


def node(**fields: object) -> Node:
    return Node(id=2, name="office.mesh.internal.", key=node_key("office"), **fields)  # type: ignore[arg-type]


def test_addresses_and_ranges_are_told_apart() -> None:
    found = member_of(node(addresses=("100.64.0.2/32",), allowed_ips=("100.64.0.2/32", "10.2.0.0/16")))
    assert (found.name, found.fqdn) == ("office", "office.mesh.internal")
    assert (found.addresses, found.routes) == (networks("100.64.0.2/32"), networks("10.2.0.0/16"))


def test_no_allowed_addresses_means_its_own_and_an_empty_list_means_none() -> None:
    assert member_of(node(addresses=("100.64.0.2/32",))).addresses == networks("100.64.0.2/32")
    assert member_of(node(addresses=("100.64.0.2/32",), allowed_ips=())).addresses == ()
    assert self_of(node(addresses=("100.64.0.2/32",), allowed_ips=())).addresses == networks("100.64.0.2/32")


def test_a_broken_entry_costs_that_entry_and_is_reported() -> None:
    found = member_of(
        node(
            addresses=("100.64.0.2/32", "nowhere"),
            allowed_ips=("100.64.0.2/32", "10.2.0.1/16", "10.3.0.0/16"),
            endpoints=("203.0.113.20:41641", "[fe80::1%eth0]:1", "x"),
        )
    )
    assert found.routes == networks("10.3.0.0/16")
    assert [str(endpoint) for endpoint in found.endpoints] == ["203.0.113.20:41641"]
    assert len(found.problems) == 4


def test_the_number_of_ranges_is_bounded() -> None:
    many = tuple(f"10.{n // 256}.{n % 256}.0/24" for n in range(MAX_ROUTES + 5))
    found = member_of(node(allowed_ips=many))
    assert len(found.routes) == MAX_ROUTES
    assert len(found.problems) == 1


def test_a_home_relay_may_be_written_in_the_old_way() -> None:
    assert member_of(node(home_derp=900)).home_relay == 900
    assert member_of(node(derp="127.3.3.40:901")).home_relay == 901
    assert member_of(node(derp="192.0.2.1:901")).home_relay == 0


def test_a_member_is_found_by_name_full_name_and_address() -> None:
    office = member_of(node(addresses=("100.64.0.2/32", "fd7a:115c:a1e0::2/128")))
    for text in ("office", "OFFICE", "office.mesh.internal.", "100.64.0.2", "fd7a:115c:a1e0::2"):
        assert find_member([office], text) is office
    assert find_member([office], "home") is None


def test_relays_are_known_by_their_addresses_or_their_names() -> None:
    derp_map = DERPMap(
        regions={
            900: DERPRegion(
                nodes=(DERPNode(host_name="relay.example.net", ipv4="203.0.113.5", ipv6="none"),)
            ),
            901: DERPRegion(nodes=(DERPNode(host_name="other.example.net"),)),
            902: None,
        }
    )
    assert relay_hosts(derp_map) == {"203.0.113.5", "other.example.net"}
    assert relay_hosts(None) == frozenset()


def test_missing_capabilities_are_named() -> None:
    assert missing_capabilities("Name:\tpython\nCapEff:\t000001ffffffffff\n") == []
    assert missing_capabilities("CapEff:\t0000000000001000\n") == ["NET_RAW"]
    assert missing_capabilities("CapEff:\t0000000000000000\n") == ["NET_ADMIN", "NET_RAW"]
