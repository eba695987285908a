"""The rules of a router, as text."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from warren_lab.net import Forward, Router, RouterKind, Transport
from warren_lab.net.firewall import router_rules, udp_rules


def rules(kind: RouterKind, *forwards: Forward) -> str:
    network = IPv4Network("192.168.1.0/24")
    return router_rules(Router("router", IPv4Address("203.0.113.10"), network, ("home",), kind, forwards))


@pytest.mark.parametrize("kind", RouterKind)
def test_every_kind_drops_what_nobody_asked_for_and_all_but_a_firewall_translate(kind: RouterKind) -> None:
    text = rules(kind)
    assert ('oifname "wan" masquerade' in text) == (kind is not RouterKind.FIREWALL)
    assert "hook input priority 0; policy drop" in text
    assert "hook forward priority 0; policy drop" in text


def test_only_a_hard_router_picks_random_ports() -> None:
    assert [kind for kind in RouterKind if "fully-random" in rules(kind)] == [RouterKind.HARD]


def test_a_forward_names_no_interface_so_that_hosts_inside_can_use_it() -> None:
    text = rules(RouterKind.EASY, Forward(Transport.TCP, 443, "home", 30443))
    assert "ip daddr 203.0.113.10 tcp dport 443 dnat to 192.168.1.10:30443" in text


def test_the_udp_switch_fills_and_empties_one_chain() -> None:
    assert "meta l4proto udp drop" in udp_rules(allowed=False)
    assert "drop" not in udp_rules(allowed=True)
    assert udp_rules(allowed=True).count("flush chain") == 2
