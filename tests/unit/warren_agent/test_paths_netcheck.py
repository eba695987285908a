"""STUN measurements on a virtual clock."""

from __future__ import annotations

import itertools

from warren_agent.paths.netcheck import LIMIT_SECONDS, Netcheck, StunServer
from warren_wire import stun
from warren_wire.addresses import AddrPort

PUBLIC = AddrPort.parse("203.0.113.5:41641")
REMAPPED = AddrPort.parse("203.0.113.5:50000")
V6 = AddrPort.parse("[2001:db8::5]:41641")
NEAR = StunServer(900, AddrPort.parse("198.51.100.1:3478"))
NEAR_TOO = StunServer(900, AddrPort.parse("198.51.100.2:3478"))
FAR = StunServer(901, AddrPort.parse("198.51.100.3:3478"))
FAR_V6 = StunServer(901, AddrPort.parse("[2001:db8::3]:3478"))


def check(*servers: StunServer) -> Netcheck:
    numbers = itertools.count(1)
    return Netcheck(servers, lambda size: next(numbers).to_bytes(size, "big"), 100.0)


def asked(netcheck: Netcheck) -> list[tuple[bytes, AddrPort]]:
    return [(stun.parse_binding_request(data), to) for data, to in netcheck.datagrams_to_send()]


def test_every_server_is_asked_at_once_and_the_run_ends_when_all_answered() -> None:
    netcheck = check(NEAR, FAR)
    requests = asked(netcheck)
    assert [to for _, to in requests] == [NEAR.address, FAR.address]
    assert netcheck.receive(requests[0][0], PUBLIC, 100.010)
    assert netcheck.answered
    assert not netcheck.done
    assert netcheck.receive(requests[1][0], PUBLIC, 100.050)
    assert netcheck.done
    assert netcheck.next_timeout() is None
    report = netcheck.report()
    assert report.udp
    assert report.ipv4 == PUBLIC
    assert report.mapping_varies is False
    assert [round(report.region_latency_seconds[r], 3) for r in (900, 901)] == [0.010, 0.050]
    assert report.mapped == {PUBLIC: 2}


def test_two_ports_for_two_servers_are_a_hard_nat() -> None:
    netcheck = check(NEAR, NEAR_TOO)
    (one, _), (two, _) = asked(netcheck)
    netcheck.receive(one, PUBLIC, 100.01)
    netcheck.receive(two, REMAPPED, 100.01)
    assert netcheck.report().mapping_varies is True


def test_one_server_says_nothing_about_the_kind_of_nat() -> None:
    netcheck = check(NEAR)
    netcheck.receive(asked(netcheck)[0][0], PUBLIC, 100.01)
    assert netcheck.report().mapping_varies is None


def test_lost_requests_are_repeated_until_answered() -> None:
    netcheck = check(NEAR)
    first = asked(netcheck)
    times = []
    for _ in range(3):
        now = netcheck.next_timeout()
        assert now is not None
        times.append(round(now - 100.0, 2))
        netcheck.handle_timeout(now)
        repeated = asked(netcheck)
        assert len(repeated) == 1
    assert times == [0.15, 0.4, 0.9]
    assert netcheck.receive(first[0][0], PUBLIC, 100.95)
    assert netcheck.done


def test_without_answers_the_run_ends_and_udp_does_not_work() -> None:
    netcheck = check(NEAR, FAR)
    while (deadline := netcheck.next_timeout()) is not None:
        netcheck.handle_timeout(deadline)
    assert netcheck.done
    assert deadline is None
    assert not netcheck.report().udp
    netcheck.handle_timeout(100.0 + LIMIT_SECONDS)


def test_stragglers_are_not_waited_for_to_the_end() -> None:
    netcheck = check(NEAR, FAR)
    netcheck.receive(asked(netcheck)[0][0], PUBLIC, 100.02)
    while (deadline := netcheck.next_timeout()) is not None:
        netcheck.handle_timeout(deadline)
        last = deadline
    assert last < 100.5
    assert set(netcheck.report().region_latency_seconds) == {900}


def test_families_are_told_apart() -> None:
    netcheck = check(NEAR, FAR_V6)
    (one, _), (two, _) = asked(netcheck)
    netcheck.receive(one, PUBLIC, 100.01)
    netcheck.receive(two, V6, 100.02)
    report = netcheck.report()
    assert (report.ipv4, report.ipv6) == (PUBLIC, V6)
    assert report.mapping_varies is None
    assert set(report.region_latency_v4) == {900}
    assert set(report.region_latency_v6) == {901}


def test_strange_and_repeated_answers_are_ignored() -> None:
    netcheck = check(NEAR, FAR)
    (one, _), _ = asked(netcheck)
    assert not netcheck.receive(b"x" * 12, REMAPPED, 100.01)
    assert netcheck.receive(one, PUBLIC, 100.01)
    assert not netcheck.receive(one, REMAPPED, 100.02)
    assert netcheck.report().mapped == {PUBLIC: 1}


def test_without_servers_there_is_nothing_to_wait_for() -> None:
    netcheck = check()
    assert netcheck.done
    assert not netcheck.report().udp
