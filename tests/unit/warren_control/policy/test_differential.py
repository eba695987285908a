"""The compiler against the oracle: random policies, random meshes, every packet and every pair tried."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import given, settings

from support.policy_cases import text_runs
from support.policy_oracle import Address, Oracle, Packet, address, is_exit, is_public, subnets
from support.policy_worlds import DOMAIN, networks, policies, text
from warren_control.policy.index import PolicyIndex, build_index
from warren_control.policy.load import load
from warren_control.policy.network import Network, Node
from warren_wire.control.messages import FilterRule

OUTSIDE = [address(one) for one in ("10.1.2.3", "10.1.9.9", "10.77.0.1", "192.168.7.5", "203.0.113.9")] + [
    address(one) for one in ("8.8.8.8", "172.16.0.9", "fd00:7::9", "2001:db8::9", "100.64.0.6")
]
PORTS = (22, 53, 443, 8050)
PROTOCOLS = (6, 17, 1)


def compiled(policy: dict[str, Any], network: Network) -> PolicyIndex:
    return build_index(load(text(policy), [DOMAIN]), network)


def lets_in(filter_rules: tuple[FilterRule, ...], packet: Packet) -> bool:
    """What a client does with its filter."""
    return any(
        (rule.ip_proto is None and packet.protocol in (6, 17, 1, 58))
        or packet.protocol in (rule.ip_proto or ())
        for rule in filter_rules
        if rule.dst_ports is not None
        and any(_holds(one, packet.source) for one in rule.src_ips or ())
        and any(
            _holds(one.ip, packet.destination) and one.ports.first <= packet.port <= one.ports.last
            for one in rule.dst_ports
        )
    )


def _holds(words: str, found: Address) -> bool:
    number = text_runs(str(found))[0][0]
    return any(first <= number <= last for first, last in text_runs(words))


def targets(node: Node) -> list[Address]:
    """Addresses whose packets a node sees: its own and those that it routes."""
    routed = [one for one in OUTSIDE if any(one.version == r.version and one in r for r in subnets(node))]
    public = [one for one in OUTSIDE if is_exit(node) and is_public(one)]
    return [*node.addresses, *routed, *public]


@settings(max_examples=150, deadline=None)
@given(policies(), networks())
def test_a_filter_lets_in_exactly_what_the_policy_allows(policy: dict[str, Any], network: Network) -> None:
    index, oracle = compiled(policy, network), Oracle(policy, network)
    sources = [*OUTSIDE, *(one for node in network.nodes.values() for one in node.addresses)]
    for node in network.nodes.values():
        rules = index.filter(node.id)
        for source, destination in product(sources, targets(node)):
            if source.version == destination.version:
                for port, protocol in product(PORTS, PROTOCOLS):
                    packet = Packet(source, destination, port, protocol)
                    assert lets_in(rules, packet) == oracle.allows(packet, node), (node.name, packet)


@settings(max_examples=250, deadline=None)
@given(policies(), networks())
def test_nodes_see_exactly_whom_a_rule_connects_them_with(policy: dict[str, Any], network: Network) -> None:
    index, oracle = compiled(policy, network), Oracle(policy, network)
    for one in network.nodes.values():
        peers = index.peers(one.id)
        for other in network.nodes.values():
            if other is not one:
                assert (other.id in peers) == oracle.sees(one, other), (one.name, other.name)


@settings(max_examples=250, deadline=None)
@given(policies(), networks())
def test_no_node_is_given_one_prefix_by_two_peers(policy: dict[str, Any], network: Network) -> None:
    index = compiled(policy, network)
    for viewer in network.nodes:
        given_routes = [
            route for peer in index.peers(viewer) for route in index.peer_routes(viewer, peer).subnets
        ]
        assert len(given_routes) == len(set(given_routes))


@settings(max_examples=40, deadline=None)
@given(policies(), networks())
def test_who_may_reach_whom_can_also_see_it(policy: dict[str, Any], network: Network) -> None:
    index, oracle = compiled(policy, network), Oracle(policy, network)
    for one, other in product(network.nodes.values(), repeat=2):
        if one is not other and any(
            oracle.allows(Packet(a, b, port, protocol), other)
            for a, b in zip(one.addresses, other.addresses, strict=True)
            for port, protocol in product(PORTS, PROTOCOLS)
        ):
            assert index.sees(one.id, other.id)
            assert index.sees(other.id, one.id)
