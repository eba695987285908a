"""A port mapping at a router that speaks NAT-PMP, PCP, both, or neither; time is virtual."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.home_router import LIFETIME_SECONDS, PCP_PORT, PMP_PORT, PUBLIC, HomeRouter
from warren_agent.kernel.gateways import default_gateway
from warren_agent.paths import portmap_codec as codec
from warren_agent.paths.portmap import REST_SECONDS, PortMapper, Router
from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError

GATEWAY, OWN = IPv4Address("192.168.1.1"), IPv4Address("192.168.1.10")
PORT, NONCE = 41641, b"n" * 12
HERE = Router(GATEWAY, OWN)


@dataclass
class World:
    router: HomeRouter
    mapper: PortMapper = field(default_factory=lambda: PortMapper(internal_port=PORT, nonce=NONCE))
    now: float = 0.0
    deliver: Callable[[bytes], bool] = lambda data: True

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            for data, _ in self.mapper.datagrams_to_send():
                answer = self.router.answer(data, self.now)
                if answer is not None and self.deliver(answer):
                    self.mapper.receive_datagram(answer, GATEWAY, self.now)
            due = self.mapper.next_timeout()
            if due is None or due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            self.mapper.handle_timeout(self.now)

    def join(self) -> None:
        self.mapper.set_router(HERE, self.now)
        self.run(5.5)


def test_a_router_with_nat_pmp_gives_a_mapping() -> None:
    world = World(HomeRouter(pcp=False))
    world.join()
    assert world.mapper.external == AddrPort(PUBLIC, PMP_PORT)
    assert (world.mapper.seen_pmp, world.mapper.seen_pcp) == (True, False)


def test_a_router_with_pcp_alone_gives_a_mapping() -> None:
    world = World(HomeRouter(pmp=False))
    world.join()
    assert world.mapper.external == AddrPort(PUBLIC, PCP_PORT)
    assert world.mapper.seen_pcp


def test_a_silent_router_is_asked_for_five_seconds_and_again_after_a_rest() -> None:
    router = HomeRouter(pmp=False, pcp=False)
    world = World(router)
    world.join()
    asked = len(router.asked)
    assert world.mapper.external is None
    world.run(REST_SECONDS - 10)
    assert len(router.asked) == asked
    router.pmp = True
    world.run(20)
    assert world.mapper.external == AddrPort(PUBLIC, PMP_PORT)


def test_a_router_that_refuses_is_not_asked_without_a_pause() -> None:
    router = HomeRouter(result=2)
    world = World(router)
    world.join()
    world.run(300)
    assert world.mapper.external is None
    assert len(router.asked) < 20


def test_a_lost_answer_is_asked_for_again() -> None:
    world = World(HomeRouter())
    lost = iter([False, False, False])
    world.deliver = lambda data: next(lost, True)
    world.join()
    assert world.mapper.external is not None


def test_a_mapping_is_renewed_at_half_of_its_life_with_the_same_port_and_name() -> None:
    router = HomeRouter(pmp=False, lifetime=600)
    world = World(router)
    world.join()
    router.asked.clear()
    world.run(310)
    (renewal,) = [data for data in router.asked if data[0] == 2]
    assert renewal[24:36] == NONCE
    assert renewal[42:44] == PCP_PORT.to_bytes(2, "big")
    world.run(100_000)
    assert world.mapper.external == AddrPort(PUBLIC, PCP_PORT)


def test_a_mapping_ends_when_the_router_is_silent_for_its_whole_life() -> None:
    router = HomeRouter(lifetime=600)
    world = World(router)
    world.join()
    world.deliver = lambda data: False
    world.run(500)
    assert world.mapper.external is not None
    world.run(200)
    assert world.mapper.external is None


def test_a_router_that_began_anew_has_no_mapping_and_is_asked_again() -> None:
    router = HomeRouter(pcp=False)
    world = World(router)
    world.join()
    router.started = world.now + 1000
    world.run(LIFETIME_SECONDS)
    assert world.mapper.external == AddrPort(PUBLIC, PMP_PORT)
    epochs = [data for data in router.asked if data[1] == 1]
    assert len(epochs) >= 2


def test_another_network_makes_the_mapping_void_and_gives_it_back() -> None:
    router = HomeRouter()
    world = World(router)
    world.join()
    world.mapper.set_router(None, world.now)
    assert world.mapper.external is None
    ((data, gateway),) = world.mapper.datagrams_to_send()
    assert gateway == GATEWAY
    assert codec.pmp_map_request(PORT, 0, 0) == data
    assert world.mapper.next_timeout() is None


def test_answers_of_strangers_and_about_other_ports_change_nothing() -> None:
    router = HomeRouter()
    mapper = PortMapper(internal_port=PORT, nonce=NONCE)
    mapper.set_router(HERE, 0.0)
    for data, _ in mapper.datagrams_to_send():
        answer = router.answer(data, 0.0)
        assert answer is not None
        mapper.receive_datagram(answer, IPv4Address("192.168.1.66"), 0.0)
    foreign = codec.pcp_map_request(OWN, b"x" * 12, PORT, None, 7200)
    answer = router.answer(foreign, 0.0)
    assert answer is not None
    mapper.receive_datagram(answer, GATEWAY, 0.0)
    other = router.answer(codec.pmp_map_request(PORT + 1, 0, 7200), 0.0)
    assert other is not None
    mapper.receive_datagram(other, GATEWAY, 0.0)
    assert mapper.external is None
    assert mapper.malformed == 3


def test_requests_byte_by_byte() -> None:
    assert codec.pmp_address_request().hex() == "0000"
    assert codec.pmp_map_request(41641, 41641, 7200).hex() == "00010000a2a9a2a900001c20"
    assert codec.pcp_map_request(OWN, NONCE, 41641, None, 7200).hex() == (
        "0201000000001c2000000000000000000000ffffc0a8010a"
        "6e6e6e6e6e6e6e6e6e6e6e6e11000000a2a9a2a900000000000000000000ffff00000000"
    )


@pytest.mark.parametrize("data", [HomeRouter().answer(codec.pcp_map_request(OWN, NONCE, 1, None, 9), 0.0)])
def test_a_cut_answer_is_refused_and_nothing_else_is_raised(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            codec.parse_answer(data[:length])


@given(st.binary(max_size=80))
def test_any_bytes_of_the_router_are_survived(data: bytes) -> None:
    mapper = PortMapper(internal_port=PORT, nonce=NONCE)
    mapper.set_router(HERE, 0.0)
    mapper.receive_datagram(data, GATEWAY, 0.1)
    mapper.handle_timeout(10.0)


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="needs a little-endian machine: the kernel's own order")
def test_the_router_is_the_gateway_of_the_best_default_route() -> None:
    assert default_gateway(ROUTES) == IPv4Address("192.168.2.1")
    assert default_gateway(ROUTES.splitlines()[0]) is None
