"""What a host should look like, written as a person would type it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.members import member, networks, node_key
from warren_agent.allotment import Judgements, Reason, Surroundings
from warren_agent.config import Config
from warren_agent.desired import Desired, desired, taken_range
from warren_agent.host import Host
from warren_agent.member import Member

HOME = member("home", 1, addresses=("100.64.0.1", "fd7a:115c:a1e0::1"))
CONFIG = Config(server_url="https://203.0.113.10")
ALONE = Surroundings()


def lines(host: Host) -> list[str]:
    """The host as commands would set it up."""
    found = [f"address {address}" for address in sorted(map(str, host.addresses))]
    for key, peer in host.peers.items():
        ranges = " ".join(sorted(map(str, peer.allowed_ips)))
        found.append(f"peer {key.short()} allowed {ranges}".rstrip())
    found += [f"route {route}" for route in sorted(map(str, host.routes))]
    return found


def host_of(*members: Member, config: Config = CONFIG, around: Surroundings = ALONE) -> Host:
    return desired(HOME, members, config, around).host


def outcome(*members: Member, config: Config = CONFIG, around: Surroundings = ALONE) -> Desired:
    return desired(HOME, members, config, around)


def peer_line(name: str, *ranges: str) -> str:
    return f"peer {node_key(name).short()} allowed {' '.join(ranges)}".rstrip()


def test_a_lone_node_has_its_addresses_and_no_peer() -> None:
    assert lines(host_of()) == ["address 100.64.0.1/32", "address fd7a:115c:a1e0::1/128"]


def test_a_peer_brings_its_addresses_and_the_ranges_it_serves() -> None:
    office = member("office", 2, addresses=("100.64.0.2", "fd7a:115c:a1e0::2"), routes=("10.2.0.0/16",))
    assert lines(host_of(office)) == [
        "address 100.64.0.1/32",
        "address fd7a:115c:a1e0::1/128",
        peer_line("office", "10.2.0.0/16", "100.64.0.2/32", "fd7a:115c:a1e0::2/128"),
        "route 10.2.0.0/16",
        "route 100.64.0.2/32",
        "route fd7a:115c:a1e0::2/128",
    ]


def test_ranges_of_others_are_left_alone_unless_accepted() -> None:
    office = member("office", 2, routes=("10.2.0.0/16",))
    found = outcome(office, config=replace(CONFIG, accept_routes=False))
    assert lines(found.host)[2:] == [peer_line("office", "100.64.0.2/32"), "route 100.64.0.2/32"]
    assert found.refusals == ()


def test_the_device_has_our_key_port_and_mark() -> None:
    device = host_of().device
    assert device is not None
    assert (device.public_key, device.listen_port, device.mark) == (node_key("home"), 41641, 0x5700000)


def test_rules_lead_all_but_our_own_packets_to_our_table() -> None:
    rules = sorted(host_of().rules)
    assert [(rule.priority, rule.table, rule.mark, rule.mask) for rule in rules] == [
        (5300, 22345, 0x5700000, 0xFF00000)
    ] * 2


@pytest.mark.parametrize(
    ("offered", "around", "reason"),
    [
        ("0.0.0.0/0", ALONE, Reason.DEFAULT_ROUTE),
        ("::/0", ALONE, Reason.DEFAULT_ROUTE),
        (
            "203.0.113.0/24",
            Surroundings(control=frozenset({ip_address("203.0.113.10")})),
            Reason.CONTROL_SERVER,
        ),
        ("198.51.100.0/25", Surroundings(relays=frozenset({ip_address("198.51.100.7")})), Reason.RELAY),
        ("10.1.2.0/24", ALONE, Reason.ADVERTISED),
        ("10.0.0.0/8", ALONE, Reason.ADVERTISED),
        (
            "192.168.1.128/25",
            Surroundings(local_networks=frozenset({ip_network("192.168.1.0/24")})),
            Reason.LOCAL_NETWORK,
        ),
        (
            "192.168.0.0/16",
            Surroundings(local_networks=frozenset({ip_network("192.168.1.0/24")})),
            Reason.LOCAL_NETWORK,
        ),
        ("100.64.0.0/24", ALONE, Reason.OWN_ADDRESS),
    ],
)
def test_a_range_that_would_cut_the_host_off_is_refused_and_reported(
    offered: str, around: Surroundings, reason: Reason
) -> None:
    config = replace(CONFIG, advertise_routes=networks("10.1.0.0/16"))
    found = outcome(member("office", 2, routes=(offered,)), config=config, around=around)
    assert lines(found.host)[2:] == [peer_line("office", "100.64.0.2/32"), "route 100.64.0.2/32"]
    assert [(r.peer, str(r.network), r.reason) for r in found.refusals] == [("office", offered, reason)]
    assert str(found.refusals[0]) == f"{offered} of office is not used: {reason.value}"


def test_one_that_offers_itself_as_an_exit_node_keeps_its_peers() -> None:
    office = member("office", 2, routes=("10.2.0.0/16",))
    found = outcome(office, config=replace(CONFIG, advertise_routes=networks("0.0.0.0/0", "::/0")))
    assert found.refusals == ()
    assert peer_line("office", "10.2.0.0/16", "100.64.0.2/32") in lines(found.host)


def test_an_address_told_of_two_members_goes_to_the_lower_id_and_the_rest_of_both_stays() -> None:
    office = member("office", 2)
    branch = member("branch", 3, addresses=("100.64.0.2", "100.64.0.3"), routes=("10.3.0.0/16",))
    found = outcome(branch, office)
    assert lines(found.host)[2:4] == [
        peer_line("office", "100.64.0.2/32"),
        peer_line("branch", "10.3.0.0/16", "100.64.0.3/32"),
    ]
    assert [str(refusal) for refusal in found.refusals] == [
        "100.64.0.2/32 of branch is not used: another member has it already"
    ]


def test_a_member_with_our_own_address_does_not_get_it() -> None:
    found = outcome(member("office", 2, addresses=("100.64.0.1", "100.64.0.2")))
    assert lines(found.host)[2:] == [peer_line("office", "100.64.0.2/32"), "route 100.64.0.2/32"]
    assert [refusal.reason for refusal in found.refusals] == [Reason.OWN_ADDRESS]


def test_the_pod_networks_of_this_cluster_are_not_taken_over_though_they_are_not_advertised() -> None:
    config = replace(CONFIG, keep_source_local=networks("10.1.0.0/16"))
    found = outcome(member("office", 2, routes=("10.1.3.0/24", "10.2.0.0/16")), config=config)
    assert [(str(r.network), r.reason) for r in found.refusals] == [("10.1.3.0/24", Reason.ADVERTISED)]
    assert "route 10.2.0.0/16" in lines(found.host)


def test_a_range_offered_twice_goes_to_the_lower_id() -> None:
    office, branch = (
        member("office", 2, routes=("10.2.0.0/16",)),
        member("branch", 3, routes=("10.2.0.0/16",)),
    )
    found = outcome(branch, office)
    assert lines(found.host)[2:4] == [
        peer_line("office", "10.2.0.0/16", "100.64.0.2/32"),
        peer_line("branch", "100.64.0.3/32"),
    ]
    assert [refusal.reason for refusal in found.refusals] == [Reason.TAKEN]


def test_an_address_is_not_lost_to_a_range_of_a_lower_id() -> None:
    office, branch = member("office", 2, routes=("100.64.0.3/32",)), member("branch", 3)
    assert lines(host_of(office, branch))[2:4] == [
        peer_line("office", "100.64.0.2/32"),
        peer_line("branch", "100.64.0.3/32"),
    ]


def test_an_expired_member_and_one_that_cannot_be_found_are_no_peers() -> None:
    expired = member("office", 2, expired=True)
    silent = replace(member("branch", 3), disco=None)
    assert lines(host_of(expired, silent)) == lines(host_of())


def test_without_ipv6_nothing_of_ipv6_is_wanted() -> None:
    office = member("office", 2, addresses=("100.64.0.2", "fd7a:115c:a1e0::2"), routes=("fd00:2::/64",))
    assert lines(host_of(office, around=Surroundings(ipv6=False))) == [
        "address 100.64.0.1/32",
        peer_line("office", "100.64.0.2/32"),
        "route 100.64.0.2/32",
    ]


def test_our_address_inside_a_network_of_the_host_is_found() -> None:
    lan = Surroundings(local_networks=frozenset(networks("100.64.0.0/24")))
    assert taken_range(HOME, lan) == (ip_network("100.64.0.1/32"), ip_network("100.64.0.0/24"))
    other_mesh = Surroundings(local_addresses=frozenset({ip_address("100.64.0.1")}))
    assert taken_range(HOME, other_mesh) is not None
    assert taken_range(HOME, Surroundings(local_networks=frozenset(networks("192.168.1.0/24")))) is None


MEMBERS = st.lists(
    st.builds(
        member,
        st.sampled_from("abcdef"),
        st.integers(2, 5),
        routes=st.lists(
            st.sampled_from(["10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0", "100.64.0.3/32"]), max_size=3
        ).map(tuple),
        expired=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda each: each.name,
)
PLACES = st.sampled_from([ALONE, Surroundings(local_networks=frozenset(networks("10.1.5.0/24")))])


@given(st.lists(st.tuples(MEMBERS, PLACES), min_size=1, max_size=5))
def test_remembered_judgements_never_change_the_outcome(
    maps: list[tuple[list[Member], Surroundings]],
) -> None:
    remembered = Judgements()
    for members, around in maps:
        assert desired(HOME, members, CONFIG, around, (), remembered) == desired(
            HOME, members, CONFIG, around
        )


def test_a_change_of_one_member_is_the_work_of_one() -> None:
    judgements = Judgements()
    members = [member(f"peer-{number}", number) for number in range(2, 52)]
    desired(HOME, members, CONFIG, ALONE, (), judgements)
    assert judgements.made == 50
    members[7] = replace(members[7], endpoints=())
    # Each map brings a new value for the node itself.
    desired(replace(HOME), members, CONFIG, Surroundings(), (), judgements)
    assert judgements.made == 51
    desired(HOME, members, CONFIG, Surroundings(ipv6=False), (), judgements)
    assert judgements.made == 101
