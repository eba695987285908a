"""Steps from one host to another, written as a person would type them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_interface, ip_network

from hypothesis import given
from hypothesis import strategies as st

from support.members import node_key
from warren_agent.host import MTU, NOTHING, Device, Host, Peer, Rule, Ruleset
from warren_agent.plan import (
    Action,
    AddAddress,
    AddPeer,
    AddRoute,
    AddRule,
    ChangePeer,
    ConfigureDevice,
    RemoveAddress,
    RemoveFirewall,
    RemovePeer,
    RemoveRoute,
    RemoveRule,
    ReplaceFirewall,
    SetLink,
    plan,
)
from warren_wire.keys import NodePublic

NAMES = {node_key(name): name for name in ("home", "office", "branch")}
RULE = Rule(2, 5300, 22345, 0x5700000, 0xFF00000)
DEVICE = Device(node_key("home"), 41641, 0x5700000)


def peer(*ranges: str, has_endpoint: bool = True) -> Peer:
    return Peer(frozenset(ip_network(text) for text in ranges), has_endpoint)


HOST = Host(
    link_up=True,
    mtu=MTU,
    device=DEVICE,
    addresses=frozenset({ip_interface("100.64.0.1/32")}),
    peers={node_key("office"): peer("100.64.0.2/32", "10.2.0.0/16")},
    routes=frozenset({ip_network("100.64.0.2/32"), ip_network("10.2.0.0/16")}),
    rules=frozenset({RULE}),
    firewall=Ruleset(({"table": {"name": "warren"}},)),
)


def line(action: Action) -> str:
    match action:
        case ConfigureDevice():
            return "configure device"
        case SetLink(mtu):
            return f"link up mtu {mtu}"
        case AddAddress(address):
            return f"add address {address}"
        case RemoveAddress(address):
            return f"remove address {address}"
        case AddPeer(key, peer) | ChangePeer(key, peer):
            verb = "add" if isinstance(action, AddPeer) else "change"
            return f"{verb} peer {NAMES[key]} {' '.join(sorted(map(str, peer.allowed_ips)))}"
        case RemovePeer(key):
            return f"remove peer {NAMES[key]}"
        case AddRoute(route):
            return f"add route {route}"
        case RemoveRoute(route):
            return f"remove route {route}"
        case AddRule(rule):
            return f"add rule {rule.priority}"
        case RemoveRule(rule):
            return f"remove rule {rule.priority}"
        case ReplaceFirewall():
            return "replace firewall"
        case RemoveFirewall():
            return "remove firewall"


def lines(desired: Host, observed: Host) -> list[str]:
    return [line(action) for action in plan(desired, observed)]


def test_from_nothing_everything_is_added_and_rules_come_last() -> None:
    assert lines(HOST, NOTHING) == [
        "configure device",
        "add address 100.64.0.1/32",
        "link up mtu 1280",
        "add peer office 10.2.0.0/16 100.64.0.2/32",
        "replace firewall",
        "add route 10.2.0.0/16",
        "add route 100.64.0.2/32",
        "add rule 5300",
    ]


def test_to_nothing_rules_go_first() -> None:
    assert lines(NOTHING, HOST) == [
        "remove rule 5300",
        "remove route 10.2.0.0/16",
        "remove route 100.64.0.2/32",
        "remove firewall",
        "remove peer office",
        "remove address 100.64.0.1/32",
    ]


def test_a_new_range_changes_the_peer_in_place() -> None:
    more = peer("100.64.0.2/32", "10.2.0.0/16", "10.3.0.0/16")
    wanted = replace(HOST, peers={node_key("office"): more}, routes=HOST.routes | {ip_network("10.3.0.0/16")})
    assert lines(wanted, HOST) == [
        "change peer office 10.2.0.0/16 10.3.0.0/16 100.64.0.2/32",
        "add route 10.3.0.0/16",
    ]


def test_a_range_that_moves_is_added_before_it_is_missed() -> None:
    wanted = replace(
        HOST, peers={node_key("office"): peer("100.64.0.2/32"), node_key("branch"): peer("10.2.0.0/16")}
    )
    assert lines(wanted, HOST) == ["change peer office 100.64.0.2/32", "add peer branch 10.2.0.0/16"]


def test_a_peer_without_endpoint_gets_one() -> None:
    found = replace(
        HOST, peers={node_key("office"): peer("100.64.0.2/32", "10.2.0.0/16", has_endpoint=False)}
    )
    assert lines(HOST, found) == ["add peer office 10.2.0.0/16 100.64.0.2/32"]


def test_a_restarted_wireguard_gets_its_peers_back_and_nothing_else() -> None:
    found = replace(HOST, device=Device(node_key("home"), 0, 0), peers={})
    assert lines(HOST, found) == ["configure device", "add peer office 10.2.0.0/16 100.64.0.2/32"]


def test_a_wrong_rule_of_ours_is_replaced() -> None:
    wrong = replace(RULE, mask=0)
    assert lines(HOST, replace(HOST, rules=frozenset({wrong}))) == ["add rule 5300", "remove rule 5300"]


# Any two hosts.

_networks = st.sampled_from(
    [ip_network(t) for t in ("10.1.0.0/16", "10.2.0.0/16", "100.64.0.2/32", "fd00:2::/64")]
)
_peers = st.dictionaries(
    st.sampled_from(list(NAMES)),
    st.builds(Peer, st.frozensets(_networks), st.just(True)),
)
_hosts = st.builds(
    Host,
    link_up=st.just(True),
    mtu=st.just(MTU),
    device=st.just(DEVICE),
    addresses=st.frozensets(
        st.sampled_from([ip_interface(t) for t in ("100.64.0.1/32", "100.64.0.9/32", "fd7a::1/128")])
    ),
    peers=_peers,
    routes=st.frozensets(_networks),
    rules=st.frozensets(st.sampled_from([RULE, replace(RULE, family=10)])),
    firewall=st.sampled_from([None, Ruleset(()), Ruleset(({"table": {}},))]),
)


def applied(host: Host, actions: Iterable[Action]) -> Host:
    """A host on which the actions were run."""
    peers: dict[NodePublic, Peer] = dict(host.peers)
    for action in actions:
        match action:
            case ConfigureDevice(device):
                host = replace(host, device=device)
            case SetLink(mtu):
                host = replace(host, link_up=True, mtu=mtu)
            case AddAddress(address):
                host = replace(host, addresses=host.addresses | {address})
            case RemoveAddress(address):
                host = replace(host, addresses=host.addresses - {address})
            case AddRoute(route):
                host = replace(host, routes=host.routes | {route})
            case RemoveRoute(route):
                host = replace(host, routes=host.routes - {route})
            case AddRule(rule):
                host = replace(host, rules=host.rules | {rule})
            case RemoveRule(rule):
                host = replace(host, rules=host.rules - {rule})
            case ReplaceFirewall(ruleset):
                host = replace(host, firewall=ruleset)
            case RemoveFirewall():
                host = replace(host, firewall=None)
            case AddPeer(key, new):
                peers[key] = new
            case ChangePeer(key, new):
                assert key in peers
                peers[key] = new
            case RemovePeer(key):
                del peers[key]
    return replace(host, peers=peers)


@given(_hosts)
def test_a_host_that_is_as_wanted_needs_nothing(host: Host) -> None:
    assert plan(host, host) == []


@given(_hosts, _hosts)
def test_a_plan_leads_to_what_is_wanted(desired: Host, observed: Host) -> None:
    assert applied(observed, plan(desired, observed)) == desired


@given(_hosts, _hosts)
def test_a_peer_that_stays_is_never_removed(desired: Host, observed: Host) -> None:
    removed = {action.key for action in plan(desired, observed) if isinstance(action, RemovePeer)}
    assert not removed & set(desired.peers)


@given(_hosts, _hosts)
def test_a_map_that_may_be_old_takes_nothing_away(desired: Host, observed: Host) -> None:
    cautious = plan(desired, observed, remove=False)
    assert not any(type(action).__name__.startswith("Remove") for action in cautious)
    assert plan(desired, observed)[: len(cautious)] == cautious
