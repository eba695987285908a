"""A topology is checked before anything is made."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from warren_lab.errors import NetworkError
from warren_lab.net import Forward, PublicHost, Router, RouterKind, Topology, Transport
from warren_lab.net.topology import public_v6_of

HOME = Router("home-router", IPv4Address("203.0.113.10"), IPv4Network("192.168.1.0/24"), ("home", "nas"))
WEB = PublicHost("web", IPv4Address("203.0.113.80"))


def test_hosts_of_a_lan_are_numbered_from_ten_in_their_order() -> None:
    assert HOME.gateway == IPv4Address("192.168.1.1")
    assert HOME.address_of("nas") == IPv4Address("192.168.1.11")


def test_a_host_is_found_wherever_it_is() -> None:
    topology = Topology((HOME,), (WEB,))
    assert topology.address_of("web") == WEB.address
    assert topology.address_of("home") == IPv4Address("192.168.1.10")
    with pytest.raises(NetworkError, match="no host 'office'"):
        topology.address_of("office")


def test_a_public_ipv6_address_has_the_same_last_number() -> None:
    assert public_v6_of(WEB.address) == IPv6Address("2001:db8::50")


@pytest.mark.parametrize(
    ("router", "complaint"),
    [
        (replace(HOME, wan=IPv4Address("192.0.2.1")), "192.0.2.1 is not a host address of 203.0.113.0/24"),
        (replace(HOME, wan=IPv4Address("203.0.113.1")), "203.0.113.1 is not a host address"),
        (replace(HOME, wan=WEB.address), "203.0.113.80 is used twice"),
        (replace(HOME, name="web"), "the name 'web' is used twice"),
        (replace(HOME, hosts=("home-router-lan",)), "the name 'home-router-lan' is used twice"),
        (replace(HOME, hosts=("Home",)), "'Home' is not a name"),
        (replace(HOME, lan=IPv4Network("203.0.113.0/24")), "overlaps the public network"),
        (replace(HOME, lan=IPv4Network("192.168.1.0/28")), "too small"),
        (replace(HOME, lan_v6=IPv6Network("2001:db8:1::/64")), "needs public IPv6"),
        (replace(HOME, forwards=(Forward(Transport.TCP, 443, "web", 1),)), "not behind home-router"),
        (replace(HOME, forwards=(Forward(Transport.TCP, 0, "home", 1),)), "not ports"),
        (replace(HOME, forwards=(Forward(Transport.TCP, 443, "home", 1),) * 2), "forwarded twice"),
    ],
)
def test_a_mistake_is_named(router: Router, complaint: str) -> None:
    with pytest.raises(NetworkError, match=complaint):
        Topology((router,), (WEB,))


INNER = Router(
    "inner", IPv4Address("192.168.1.2"), IPv4Network("10.0.0.0/24"), ("attic",), uplink="home-router"
)


def test_a_router_may_stand_behind_another() -> None:
    assert Topology((HOME, INNER)).address_of("attic") == IPv4Address("10.0.0.10")


@pytest.mark.parametrize(
    ("router", "complaint"),
    [
        (replace(INNER, uplink="web"), "which is no router before it"),
        (replace(INNER, wan=IPv4Address("192.168.1.11")), "192.168.1.11 is not a free address"),
        (replace(INNER, wan=IPv4Address("192.168.7.2")), "192.168.7.2 is not a free address"),
        (replace(INNER, kind=RouterKind.FIREWALL), "knows no route"),
        (replace(INNER, kind=RouterKind.ONE_TO_ONE, hosts=("attic", "shed")), "to one host, not to 2"),
        (replace(INNER, lan_v4=False), "no address at all"),
    ],
)
def test_a_mistake_behind_another_router_is_named(router: Router, complaint: str) -> None:
    with pytest.raises(NetworkError, match=complaint):
        Topology((HOME, router))


def test_all_mistakes_are_named_at_once() -> None:
    wrong = replace(HOME, wan=IPv4Address("192.0.2.1"), hosts=("Home",))
    with pytest.raises(NetworkError, match=r"not a name.*192\.0\.2\.1"):
        Topology((wrong,))


def test_one_port_may_be_forwarded_for_both_transports() -> None:
    forwards = (Forward(Transport.TCP, 443, "home", 1), Forward(Transport.UDP, 443, "home", 1))
    assert Topology((replace(HOME, forwards=forwards),)).routers[0].forwards == forwards
