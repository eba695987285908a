"""The small parts of the path machine, each by itself."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_agent.kernel.addresses import InterfaceAddress, reachable
from warren_agent.paths.candidates import MAX_LISTED, MAX_PING_SOURCES, Candidates, is_usable
from warren_agent.paths.deadlines import Deadlines
from warren_agent.paths.families import BOTH, IPV4, IPV6, FamilyChoice
from warren_agent.paths.home import HomeChoice
from warren_agent.paths.loopback_addresses import BASE, SIZE, LoopbackAddresses, natural_offset
from warren_agent.paths.netcheck import StunServer
from warren_agent.paths.own_endpoints import KEPT_SECONDS, OwnEndpoints
from warren_agent.paths.probe_plan import ProbePlan
from warren_agent.paths.ranking import Proven, is_better
from warren_agent.paths.relays import RelayRoutes
from warren_agent.paths.traffic import Counts, Traffic, between
from warren_agent.paths.trust import Trust
from warren_agent.paths.values import EndpointType, NetcheckReport
from warren_wire.addresses import AddrPort
from warren_wire.keys import NodePrivate, NodePublic

PUBLIC = AddrPort.parse("203.0.113.5:41641")
OTHER = AddrPort.parse("198.51.100.9:41641")
LAN = AddrPort.parse("192.168.1.5:41641")
V6 = AddrPort.parse("[2001:db8::5]:41641")


def key(number: int) -> NodePublic:
    return NodePrivate.from_seed(number.to_bytes(16, "big") * 2).public


# Which address is better


@pytest.mark.parametrize(
    ("new", "old", "better"),
    [
        (Proven(PUBLIC, 0.100), Proven(OTHER, 0.103), True),
        (Proven(PUBLIC, 0.100), Proven(OTHER, 0.101), False),
        (Proven(LAN, 0.100), Proven(PUBLIC, 0.091), True),
        (Proven(V6, 0.100), Proven(PUBLIC, 0.091), True),
        (Proven(V6, 0.100), Proven(PUBLIC, 0.030), False),
        (Proven(LAN, 0.100), Proven(PUBLIC, 0.050), False),
        (Proven(PUBLIC, 0.001), Proven(PUBLIC, 0.100), False),
        (Proven(PUBLIC, 0.0002), Proven(OTHER, 0.0009), False),
    ],
)
def test_speed_nearness_and_ipv6_decide(new: Proven, old: Proven, better: bool) -> None:
    assert is_better(new, old) is better


@given(st.floats(0.0001, 2), st.floats(0.0001, 2))
def test_two_addresses_are_never_better_than_each_other(one: float, other: float) -> None:
    pairs = [(Proven(PUBLIC, one), Proven(LAN, other)), (Proven(PUBLIC, one), Proven(OTHER, other))]
    assert not any(is_better(a, b) and is_better(b, a) for a, b in pairs)


# Candidates


def test_candidates_live_as_long_as_their_reasons() -> None:
    candidates = Candidates(BOTH)
    candidates.set_map([PUBLIC, LAN], 0)
    candidates.set_call([LAN, OTHER], 0)
    candidates.saw(V6, 0)
    candidates.set_map([], 1)
    assert {c.address for c in candidates} == {LAN, OTHER, V6}
    candidates.set_call([], 2)
    assert {c.address for c in candidates} == {V6}
    candidates.prune(45)
    assert len(candidates) == 0


def test_a_call_makes_every_candidate_ready_to_be_pinged() -> None:
    candidates = Candidates(BOTH)
    candidates.set_map([PUBLIC], 0)
    known = candidates.get(PUBLIC)
    assert known is not None
    known.pinged_at = 5.0
    candidates.set_call([], 6)
    assert known.pinged_at is None


@pytest.mark.parametrize(
    "text",
    [
        "203.0.113.5:0",
        "127.0.0.1:41642",
        "224.0.0.1:5",
        "0.0.0.0:5",
        "255.255.255.255:5",
        "[::1]:5",
        "[fe80::1]:5",
    ],
)
def test_addresses_that_can_lead_nowhere_are_no_candidates(text: str) -> None:
    assert not is_usable(AddrPort.parse(text), BOTH)


def test_ipv6_is_left_out_where_it_would_be_mixed() -> None:
    assert is_usable(V6, BOTH)
    assert not is_usable(V6, IPV4)


def test_lists_and_ping_sources_are_bounded() -> None:
    candidates = Candidates(IPV4)
    candidates.set_map([AddrPort(IPv4Address(n + (10 << 24)), 5) for n in range(1000)], 0)
    assert len(candidates) == MAX_LISTED
    for port in range(1, 200):
        candidates.saw(AddrPort(PUBLIC.ip, port), port)
    assert len(candidates) == MAX_LISTED + MAX_PING_SOURCES
    assert candidates.get(AddrPort(PUBLIC.ip, 199)) is not None
    assert candidates.get(AddrPort(PUBLIC.ip, 1)) is None


# Trust


def trusted(now: float = 100.0, latency: float = 0.01) -> Trust:
    trust = Trust()
    trust.adopt(Proven(PUBLIC, latency), now)
    return trust


def test_a_pong_is_worth_six_and_a_half_seconds() -> None:
    trust = trusted()
    assert not trust.lapsed(106.4)
    assert trust.lapsed(106.5)
    trust.renew(0.02, 103.0)
    assert not trust.lapsed(109.4)
    assert trust.lapsed(109.5)


def test_a_doubt_ends_the_path_early_unless_something_is_heard() -> None:
    trust = trusted()
    assert trust.doubt(1.5, 103.0)
    assert not trust.doubt(1.5, 103.1)
    assert not trust.lapsed(104.5)
    assert trust.lapsed(104.6)
    trust.heard()
    assert not trust.lapsed(104.6)
    assert trust.lapsed(106.5)


def test_a_fresh_pong_leaves_no_room_for_doubt() -> None:
    assert not trusted().doubt(1.5, 100.3)


def test_a_second_sign_only_shortens_a_doubt() -> None:
    trust = trusted()
    trust.doubt(1.5, 103.0)
    trust.doubt(0.5, 103.2)
    trust.doubt(5.0, 103.3)
    assert trust.lapsed(103.8)


def test_a_slow_path_gets_more_patience_but_not_more_than_stock_gives() -> None:
    trust = trusted(latency=0.5)
    trust.doubt(1.5, 101.0)
    assert not trust.lapsed(103.9)
    assert trust.lapsed(104.0)
    trust = trusted(latency=3.0)
    trust.doubt(1.5, 101.0)
    assert not trust.lapsed(106.4)
    assert trust.lapsed(106.5)


def test_quick_pings_are_counted() -> None:
    trust = trusted()
    trust.doubt(1.5, 103.0)
    assert [trust.probe_due(t) for t in (103.1, 103.3, 103.4, 103.7)] == [0, 2, 0, 3]


def test_early_lapses_are_limited_per_minute() -> None:
    trust = Trust()
    for now in (100.0, 110.0):
        trust.adopt(Proven(PUBLIC, 0.01), now)
        trust.doubt(1.0, now + 1)
        assert trust.lapsed(now + 2.1)
        assert trust.lapse(now + 2.1, failed=True)
    trust.adopt(Proven(PUBLIC, 0.01), 120.0)
    trust.doubt(1.0, 121.0)
    assert not trust.lapsed(126.4)
    assert trust.lapsed(126.5)


def test_a_path_that_did_not_last_waits_longer_each_time() -> None:
    trust = Trust()
    now, holds = 100.0, []
    for _ in range(5):
        trust.adopt(Proven(PUBLIC, 0.01), now)
        now += 6.5
        trust.lapse(now, failed=True)
        hold = next(h for h in (1.9, 4.9, 9.9, 29.9, 1000.0) if not trust.held_back(now + h + 0.2))
        holds.append(hold)
        now += 100
    assert holds == [1.9, 4.9, 9.9, 29.9, 29.9]
    trust.adopt(Proven(PUBLIC, 0.01), now)
    trust.lapse(now + 60, failed=True)
    assert not trust.held_back(now + 60)


def test_an_unused_path_that_ends_is_not_held_back() -> None:
    trust = trusted()
    trust.lapse(106.5, failed=False)
    assert not trust.held_back(106.5)


@given(st.lists(st.tuples(st.sampled_from(["doubt", "heard", "renew", "ping", "probe"]), st.floats(0, 3))))
def test_the_next_timeout_is_never_missed(steps: list[tuple[str, float]]) -> None:
    trust, now = trusted(), 100.0
    for step, pause in steps:
        deadline = trust.next_timeout(now)
        assert deadline is not None
        if now + pause < deadline:
            assert not trust.lapsed(now + pause - 1e-9)
        now += pause
        if trust.lapsed(now):
            return
        trust.probe_due(now)
        trust.answer_overdue(now)
        match step:
            case "doubt":
                trust.doubt(1.5, now)
            case "heard":
                trust.heard()
            case "renew":
                trust.renew(0.01, now)
            case "ping":
                trust.pinged(now)
            case _:
                pass


# Deadlines


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.floats(0, 100)))))
def test_deadlines_behave_like_a_dictionary(changes: list[tuple[int, float | None]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, float] = {}
    for number, deadline in changes:
        deadlines.set(number, deadline)
        model.pop(number, None)
        if deadline is not None:
            model[number] = deadline
        assert deadlines.first() == (min(model.values()) if model else None)
    assert sorted(deadlines.pop_due(50)) == sorted(k for k, v in model.items() if v <= 50)
    assert deadlines.first() == min((v for v in model.values() if v > 50), default=None)


def test_many_changes_of_one_deadline_take_no_room() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for number in range(10000):
        deadlines.set("peer", float(10000 - number))
    assert len(deadlines._heap) < 200
    assert deadlines.pop_due(1.0) == ["peer"]


# Loopback addresses


def test_a_peer_has_one_address_that_a_restart_does_not_change() -> None:
    first, second = LoopbackAddresses(), LoopbackAddresses()
    keys = [key(number) for number in range(200)]
    addresses = [first.of(k) for k in keys]
    assert [second.of(k) for k in reversed(keys)] == addresses[::-1]
    assert len(set(addresses)) == 200
    assert all(first.key_of(address.packed) == k for k, address in zip(keys, addresses, strict=True))
    assert all(address in ip_network("127.64.0.0/10") for address in addresses)


def test_two_keys_that_want_one_address_both_get_one() -> None:
    addresses = LoopbackAddresses()
    wanted = natural_offset(key(1))
    addresses._by_offset[wanted] = key(2)
    assert int(addresses.of(key(1))) == BASE + wanted % (SIZE - 2) + 1


def test_addresses_of_gone_peers_mean_nobody() -> None:
    addresses = LoopbackAddresses()
    packed = addresses.of(key(1)).packed
    addresses.keep_only(set())
    assert addresses.key_of(packed) is None
    assert addresses.key_of(b"\x7f\0\0\1") is None


# Relay routes


def test_home_is_the_way_unless_only_another_region_is_connected() -> None:
    routes = RelayRoutes()
    assert routes.region_for(key(1), 900) == 900
    routes.connected(901)
    routes.heard(key(1), 901)
    assert routes.region_for(key(1), 900) == 901
    assert routes.region_for(key(1), 0) == 901
    routes.connected(900)
    assert routes.region_for(key(1), 900) == 900


def test_a_learned_route_dies_with_its_connection_or_by_the_word_of_the_relay() -> None:
    routes = RelayRoutes()
    routes.connected(901)
    routes.heard(key(1), 901)
    routes.gone(key(1), 902)
    assert routes.region_for(key(1), 0) == 901
    routes.gone(key(1), 901)
    assert routes.region_for(key(1), 0) == 0
    routes.heard(key(1), 901)
    routes.disconnected(901)
    routes.connected(901)
    assert routes.region_for(key(1), 0) == 0


# Own endpoints


def report(*mapped: AddrPort, varies: bool | None = False) -> NetcheckReport:
    counts = {endpoint: mapped.count(endpoint) for endpoint in mapped}
    return NetcheckReport(
        udp=bool(mapped), ipv4=mapped[0] if mapped else None, mapping_varies=varies, mapped=counts
    )


def test_public_then_local_endpoints_are_offered() -> None:
    own = OwnEndpoints(41641)
    assert own.update(report(PUBLIC), [LAN.ip, V6.ip], 0, IPV4) == (
        (PUBLIC, EndpointType.STUN),
        (LAN, EndpointType.LOCAL),
    )


def test_only_endpoints_of_usable_families_are_offered() -> None:
    own = OwnEndpoints(41641)
    assert own.update(report(PUBLIC), [V6.ip], 0, IPV6) == ((V6, EndpointType.LOCAL),)


def test_a_userspace_node_keeps_to_one_family_and_leaves_ipv4_only_where_it_leads_nowhere() -> None:
    choice = FamilyChoice(one_at_a_time=True)
    only_v6 = NetcheckReport(udp=True, ipv6=V6)
    assert choice.have([LAN.ip, V6.ip]) == IPV4
    assert choice.measured(only_v6) == IPV4, "one lost answer"
    assert choice.measured(only_v6) == IPV6
    assert choice.measured(report(PUBLIC)) == IPV4
    assert choice.have([V6.ip]) == IPV6
    assert choice.have([]) == IPV4
    assert FamilyChoice(one_at_a_time=False).have([LAN.ip]) == BOTH


def test_a_big_relay_map_is_measured_whole_only_now_and_then() -> None:
    servers = [StunServer(region, AddrPort(V6.ip, region)) for region in range(1, 30)]
    latency = {server.region: server.region / 1000 for server in servers}
    plan = ProbePlan()
    assert plan.choose(servers, latency={}, home=0, now=0) == servers
    assert [s.region for s in plan.choose(servers, latency=latency, home=9, now=20)] == [1, 2, 3, 9]
    assert plan.choose(servers, latency={}, home=9, now=40) == servers, "nothing answered"
    assert len(plan.choose(servers, latency=latency, home=9, now=339)) == 4
    assert plan.choose(servers, latency=latency, home=9, now=340) == servers
    plan.reset()
    assert plan.choose(servers, latency=latency, home=9, now=341) == servers


def test_home_does_not_move_while_nobody_would_learn_of_it() -> None:
    home = HomeChoice(NodePrivate.from_seed(bytes(32)).public, 2)
    measured = {1: 0.001, 2: 0.5}

    def choose(*, may_move: bool) -> int:
        return home.choose(measured, eligible=[1, 2], scores={}, home_alive=False, may_move=may_move, now=1.0)

    assert choose(may_move=False) == 2
    assert choose(may_move=True) == 1


def test_a_public_endpoint_is_kept_for_minutes_without_an_answer() -> None:
    own = OwnEndpoints(41641)
    own.update(report(PUBLIC), [], 0)
    assert own.update(report(), [], KEPT_SECONDS) == ((PUBLIC, EndpointType.STUN),)
    assert own.update(report(), [], KEPT_SECONDS + 1) == ()


def test_a_hard_nat_offers_the_local_port_too_and_does_not_pile_up_ports() -> None:
    own = OwnEndpoints(41641)
    for port in range(50000, 50020):
        listed = own.update(report(AddrPort(PUBLIC.ip, port), varies=True), [], 1.0)
    assert (PUBLIC, EndpointType.STUN_LOCAL_PORT) in listed
    assert len(listed) <= 6
    assert AddrPort(PUBLIC.ip, 50019) in [endpoint for endpoint, _ in listed]


def test_another_network_has_other_public_addresses() -> None:
    own = OwnEndpoints(41641)
    own.update(report(PUBLIC), [], 0)
    own.forget_public()
    assert own.update(report(), [LAN.ip], 1) == ((LAN, EndpointType.LOCAL),)


# Local addresses


def address(interface: str, text: str, prefix: int = 24) -> InterfaceAddress:
    return InterfaceAddress(interface, ip_address(text), ip_network(f"{text}/{prefix}", strict=False))


def test_only_addresses_that_a_peer_could_reach_are_offered() -> None:
    found = reachable(
        [
            address("eth0", "192.168.1.5"),
            address("warren0", "10.99.0.1"),
            address("eth0", "100.64.0.1"),
            address("eth0", "fd7a:115c:a1e0::1", 64),
            address("tailscale0", "10.1.1.1"),
            address("cni0", "10.1.0.1"),
            address("eth0", "fe80::1", 64),
            address("eth0", "169.254.1.1"),
            address("eth1", "2001:db8::1", 64),
            address("eth1", "2001:db8::2", 64),
            address("eth1", "2001:db8::3", 64),
        ],
        own="warren0",
    )
    assert [str(a) for a in found] == ["192.168.1.5", "2001:db8::1", "2001:db8::2"]


def test_link_local_ipv4_counts_where_there_is_nothing_else() -> None:
    assert [str(a) for a in reachable([address("eth0", "169.254.1.1")], own="")] == ["169.254.1.1"]


# Home relay


def choose(choice: HomeChoice, measured: dict[int, float], now: float, **more: bool) -> int:
    return choice.choose(
        measured, eligible=[900, 901, 902], scores={}, home_alive=more.get("home_alive", False), now=now
    )


def test_the_nearest_region_is_home_and_a_little_nearer_is_not_enough() -> None:
    choice = HomeChoice(key(1))
    assert choose(choice, {900: 0.050, 901: 0.060}, 0) == 900
    assert choose(choice, {900: 0.050, 901: 0.042}, 400) == 900
    assert choose(choice, {900: 0.050, 901: 0.035}, 800) == 900
    assert choose(choice, {900: 0.050, 901: 0.030}, 1200) == 901


def test_a_home_that_is_alive_but_not_measured_stays() -> None:
    choice = HomeChoice(key(1))
    choose(choice, {900: 0.050}, 0)
    assert choose(choice, {901: 0.010}, 400, home_alive=True) == 900
    assert choose(choice, {901: 0.010}, 800) == 901


def test_without_any_measurement_some_region_is_home_and_remains_it() -> None:
    choice = HomeChoice(key(1))
    first = choose(choice, {}, 0)
    assert first in (900, 901, 902)
    assert choose(choice, {}, 30) == first
    assert HomeChoice(key(1)).choose({}, eligible=[], scores={}, home_alive=False, now=0) == 0


def test_scores_weigh_regions_and_removed_ones_are_left() -> None:
    choice = HomeChoice(key(1))
    chosen = choice.choose(
        {900: 0.050, 901: 0.060}, eligible=[900, 901], scores={901: 0.5}, home_alive=False, now=0
    )
    assert chosen == 901
    assert choice.choose({}, eligible=[900], scores={}, home_alive=True, now=10) == 900


# Traffic


@pytest.mark.parametrize(
    ("sent", "received", "relayed", "traffic"),
    [
        (0, 0, 0, Traffic(active=False, heard_directly=False, silent=False)),
        (32, 0, 0, Traffic(active=False, heard_directly=False, silent=False)),
        (148, 92, 0, Traffic(active=False, heard_directly=True, silent=False)),
        (128, 0, 0, Traffic(active=True, heard_directly=False, silent=True)),
        (128, 128, 0, Traffic(active=True, heard_directly=True, silent=False)),
        (128, 128, 1, Traffic(active=True, heard_directly=False, silent=False)),
        (0, 128, 0, Traffic(active=True, heard_directly=True, silent=False)),
        (-5, 128, 0, Traffic(active=False, heard_directly=False, silent=False)),
    ],
)
def test_counters_tell_traffic_from_housekeeping(
    sent: int, received: int, relayed: int, traffic: Traffic
) -> None:
    old = Counts(1000, 1000, 10)
    assert between(old, Counts(1000 + received, 1000 + sent, 10 + relayed)) == traffic
