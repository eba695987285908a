"""Two path machines back to back on a simulated network."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.simnet import RELAY_REGION, Host, Nat, SimNet, pair
from warren_agent.paths import search
from warren_agent.paths.values import PathKind

DIRECT, RELAY, IDLE = PathKind.DIRECT, PathKind.RELAY, PathKind.IDLE


def both(home: Host, office: Host, kind: PathKind) -> bool:
    return home.path_to(office) is kind and office.path_to(home) is kind


def longest_silence(host: Host, since: float) -> float:
    times = [since, *(t for t in host.received if t >= since)]
    return max(b - a for a, b in itertools.pairwise(times))


def test_the_first_packet_goes_by_relay_and_a_direct_path_follows_within_a_few_round_trips() -> None:
    net, home, office = pair()
    net.talk(home, office)
    assert home.path_to(office) is RELAY
    assert net.run_until(lambda: both(home, office, DIRECT), within=0.2) < 0.1
    assert home.received[0] - 1000.0 < 0.05
    assert [change.path for _, change in home.changes] == [RELAY, DIRECT]


@pytest.mark.parametrize(
    ("one", "other"),
    [(Nat.NONE, Nat.NONE), (Nat.NONE, Nat.EASY), (Nat.NONE, Nat.HARD), (Nat.EASY, Nat.EASY)],
)
def test_these_become_direct_and_stay_so(one: Nat, other: Nat) -> None:
    net, home, office = pair(one, other)
    net.talk(home, office)
    net.run_until(lambda: both(home, office, DIRECT), within=3)
    changes = len(home.changes) + len(office.changes)
    net.run(120)
    assert both(home, office, DIRECT)
    assert len(home.changes) + len(office.changes) == changes


@pytest.mark.parametrize(("one", "other"), [(Nat.HARD, Nat.HARD), (Nat.EASY, Nat.HARD)])
def test_these_stay_relayed_and_ask_seldom(one: Nat, other: Nat) -> None:
    net, home, office = pair(one, other)
    net.talk(home, office, every=0.5)
    net.run(60)
    assert both(home, office, RELAY)
    asked = net.datagrams
    net.run(100)
    assert both(home, office, RELAY)
    # Two candidates at either end: swept each 5 s, once more for each call, and a burst each 30 s.
    assert net.datagrams - asked < 220


def test_a_peer_without_known_endpoints_is_called_and_answers_with_its_own_pings() -> None:
    net = SimNet()
    home, office = net.host("home"), net.host("office")
    net.introduce(endpoints=False)
    net.talk(home, office)
    net.run_until(lambda: both(home, office, DIRECT), within=3)


def test_a_caller_that_sweeps_seldom_is_told_when_our_router_has_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stock peer calls, its pings die at our router, ours then open it: its next sweep is 5 s away."""
    monkeypatch.setattr(search, "BURST_SECONDS", (0.0, 5.0))
    monkeypatch.setattr(search, "EAGER_SWEEP_SECONDS", 5.0)
    net, home, office = pair()
    home.machine.ask(office.key, net.now)
    assert net.run_until(lambda: both(home, office, DIRECT), within=1.0) < 0.2
    calls = home.machine.counters.calls_sent + office.machine.counters.calls_sent
    net.run(4)
    assert home.machine.counters.calls_sent + office.machine.counters.calls_sent == calls <= 2


def test_a_dead_path_is_left_for_the_relay_within_seconds_and_comes_back() -> None:
    net, home, office = pair()
    net.talk(home, office)
    net.run_until(lambda: both(home, office, DIRECT), within=1)
    net.run(20)
    assert home.router is not None
    home.router.udp = False
    cut = net.now
    assert net.run_until(lambda: both(home, office, RELAY), within=4) < 3
    net.run(10)
    assert longest_silence(home, cut) < 3.2
    assert both(home, office, RELAY)
    home.router.udp = True
    back = net.now
    net.run_until(lambda: both(home, office, DIRECT), within=5)
    net.run(20)
    assert both(home, office, DIRECT)
    assert longest_silence(home, back) < 0.3


def test_without_traffic_a_dead_path_lapses_by_the_rule_of_stock_peers_at_the_latest() -> None:
    net, home, office = pair()
    stop = net.talk(home, office)
    net.run_until(lambda: both(home, office, DIRECT), within=1)
    stop()
    assert home.router is not None
    home.router.udp = False
    net.run_until(lambda: both(home, office, RELAY), within=6.6)


def test_traffic_that_only_goes_one_way_keeps_its_path_at_both_ends() -> None:
    net, home, office = pair()

    def stream() -> None:
        net.send(home, office, b"stream")
        net.at(0.05, stream)

    stream()
    net.run_until(lambda: both(home, office, DIRECT), within=1)
    changes = len(home.changes) + len(office.changes)
    net.run(120)
    assert both(home, office, DIRECT)
    assert len(home.changes) + len(office.changes) == changes


def test_an_idle_pair_falls_silent_and_keeps_no_timer() -> None:
    net, home, office = pair()
    stop = net.talk(home, office)
    net.run_until(lambda: both(home, office, DIRECT), within=1)
    stop()
    net.run(60)
    assert both(home, office, IDLE)
    sent = net.datagrams
    net.run(600)
    assert net.datagrams == sent
    assert home.machine.next_timeout() is None
    assert home.peers[office.key].endpoint is None


def test_after_idling_the_next_packet_is_answered_at_once_and_goes_direct_again() -> None:
    net, home, office = pair()
    stop = net.talk(home, office)
    net.run(5)
    stop()
    net.run(300)
    net.talk(home, office)
    began = net.now
    net.run_until(lambda: both(home, office, DIRECT), within=1)
    assert longest_silence(home, began) < 0.3


def test_a_router_that_forgets_its_mappings_costs_seconds_not_the_path() -> None:
    net, home, office = pair()
    net.talk(home, office)
    net.run(10)
    assert home.router is not None
    home.router.reboot()
    began = net.now
    net.run(20)
    assert both(home, office, DIRECT)
    assert longest_silence(home, began) < 4


@pytest.mark.parametrize("hours", [0.01, 1, 24])
def test_after_a_time_in_which_nothing_ran_the_path_is_direct_again(hours: float) -> None:
    net, home, office = pair()
    net.talk(home, office)
    net.run_until(lambda: home.path_to(office) is PathKind.DIRECT, 10.0)
    # A virtual machine that was stopped: every timer is late, and every mapping of the routers may be gone.
    net.now += hours * 3600
    net.run(1.0)
    for host in (home, office):
        net.run_until(lambda host=host: host.received[-1] > net.now - 1.0, 10.0)  # type: ignore[misc]
    net.run_until(lambda: home.path_to(office) is office.path_to(home) is PathKind.DIRECT, 40.0)


def test_a_host_with_another_address_goes_by_relay_at_once_and_tells_its_new_one() -> None:
    net, home, office = pair()
    net.talk(home, office)
    net.run_until(lambda: both(home, office, DIRECT), within=3)
    net.run(20)
    changed = net.now
    net.readdress(home, IPv4Address("192.168.1.99"))
    assert home.path_to(office) is RELAY
    net.run_until(lambda: both(home, office, DIRECT), within=1.0)
    net.run(5)
    assert both(home, office, DIRECT)
    assert longest_silence(home, changed) < 1.0
    assert home.machine.counters.early_lapses == 0


def test_a_lost_address_of_the_other_family_leaves_the_path() -> None:
    net, home, office = pair()
    net.talk(home, office)
    net.run_until(lambda: both(home, office, DIRECT), within=3)
    home.machine.network_changed([IPv6Address("2001:db8::1")], net.now)
    assert both(home, office, DIRECT)


def test_a_restarted_agent_adopts_the_path_without_a_gap() -> None:
    net, home, office = pair()
    net.talk(home, office)
    net.run(10)
    began = net.now
    net.restart(home)
    net.run(20)
    assert longest_silence(home, began) < 0.3
    assert [change.path for at, change in home.changes if at >= began] == [DIRECT]
    assert [change.path for at, change in office.changes if at >= began] == []


def test_an_adopted_path_that_is_dead_is_given_up() -> None:
    net, home, office = pair()
    assert home.router is not None
    home.router.udp = False
    home.machine.adopt(office.key, office.endpoints()[0], net.now)
    home.peers[office.key].endpoint = office.endpoints()[0]
    net.talk(home, office)
    net.run_until(lambda: home.path_to(office) is RELAY, within=4)


def test_a_new_disco_key_keeps_the_path() -> None:
    net, home, office = pair()
    net.talk(home, office)
    net.run(5)
    began = net.now
    net.restart(office, new_disco_key=True)
    net.run(30)
    assert longest_silence(home, began) < 0.3
    assert [change.path for at, change in home.changes if at >= began] == []
    assert both(home, office, DIRECT)


def test_a_ping_for_a_person_is_answered_by_every_path() -> None:
    net, home, office = pair()
    net.talk(home, office)
    net.run(3)
    token = home.machine.ask(office.key, net.now)
    net._pump(home)
    net.run(1)
    assert [(answer.token, answer.region) for answer in home.answers] == [
        (token, None),
        (token, RELAY_REGION),
    ]
    assert home.machine.ask(home.key, net.now) is None


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30), loss=st.floats(0, 0.25), latency=st.floats(0.001, 0.3))
def test_loss_never_makes_paths_flap_or_stick(seed: int, loss: float, latency: float) -> None:
    net, home, office = pair(seed=seed, latency=latency)
    net.loss = loss
    net.talk(home, office, every=0.2)
    net.run(180)
    for host in (home, office):
        assert len(host.changes) <= 8, host.changes
    net.loss = 0.0
    net.run(60)
    assert both(home, office, DIRECT)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    switches=st.lists(st.tuples(st.sampled_from(["home", "office"]), st.floats(0.1, 20)), max_size=8),
)
def test_whatever_is_cut_and_restored_ends_direct_and_never_silent_for_long(
    seed: int, switches: list[tuple[str, float]]
) -> None:
    net, home, office = pair(seed=seed)
    net.talk(home, office)
    net.run(3)
    began = net.now
    routers = {host.name: host.router for host in (home, office)}
    for name, pause in switches:
        router = routers[name]
        assert router is not None
        router.udp = not router.udp
        net.run(pause)
    for router in routers.values():
        assert router is not None
        router.udp = True
    net.run(60)
    assert both(home, office, DIRECT)
    assert longest_silence(home, began) < 7
