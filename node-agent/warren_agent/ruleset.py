"""The agent's one nftables table, as libnftables' JSON objects. Pure.

Five jobs and nothing else: keep the source of local pods that talk to other clusters, give what the mesh
sends to plain machines a source that they can answer, fit TCP segments to the tunnel, keep the relays'
loopback traffic out of connection tracking, and let in what the mesh's policy allows. The objects are written
exactly as nftables lists them back, so that wanted and found can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from warren_agent.host import MTU, Network, Ruleset
from warren_agent.inbound import Allowance, Span
from warren_agent.inbound_rules import CHAIN as INBOUND
from warren_agent.inbound_rules import HOOK_CHAIN, inbound_expressions
from warren_agent.inbound_rules import PRIORITY as INBOUND_PRIORITY
from warren_agent.plan import network_order

FAMILY: Final = "inet"
TABLE: Final = "warren"
KEEP_SOURCE: Final = "keep-source"
CLAMP: Final = "clamp-mss"
MASQUERADE: Final = "masquerade"
UNTRACKED: Final = (("untracked-in", "prerouting", "iifname"), ("untracked-out", "output", "oifname"))

# Just before the 100 at which network plugins masquerade: the first nat chain that maps a source decides it.
BEFORE_MASQUERADE: Final = 99
MANGLE: Final = -150
RAW: Final = -300
_IP_PROTOCOL: Final = {4: "ip", 6: "ip6"}
_HEADER_BYTES: Final = {4: 40, 6: 60}

Json = dict[str, Any]


def _match(left: Json, right: object, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _meta(key: str, value: str) -> Json:
    return _match({"meta": {"key": key}}, value)


def _field(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def _prefix(network: Network) -> object:
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


def _any_of(networks: Sequence[Network]) -> object:
    """nftables lists a set of one as its element."""
    members = [_prefix(network) for network in networks]
    return members[0] if len(members) == 1 else {"set": members}


def _chain(name: str, kind: str, hook: str, priority: int) -> Json:
    return {
        "chain": {
            "family": FAMILY,
            "table": TABLE,
            "name": name,
            "type": kind,
            "hook": hook,
            "prio": priority,
            "policy": "accept",
        }
    }


def _rule(chain: str, *expressions: Json) -> Json:
    return {"rule": {"family": FAMILY, "table": TABLE, "chain": chain, "expr": list(expressions)}}


def disjoint(networks: Iterable[Network]) -> list[Network]:
    """In order and without the ones inside others: nftables refuses overlapping elements of a set."""
    kept: list[Network] = []
    for network in sorted(set(networks), key=network_order):
        last = kept[-1] if kept else None
        if last is None or last.version != network.version or not network.overlaps(last):
            kept.append(network)
    return kept


def _keep_source_rules(interface: str, local: Iterable[Network], remote: Iterable[Network]) -> list[Json]:
    ours, theirs = disjoint(local), disjoint(remote)
    rules: list[Json] = []
    for version, protocol in _IP_PROTOCOL.items():
        sources = [n for n in ours if n.version == version]
        targets = [n for n in theirs if n.version == version]
        if not sources or not targets:
            continue
        rules.append(
            _rule(
                KEEP_SOURCE,
                _meta("oifname", interface),
                # What was DNATed to another node's endpoint needs the masquerade, or its answer goes astray.
                _match({"ct": {"key": "status"}}, "dnat", "!"),
                _match(_field(protocol, "saddr"), _any_of(sources)),
                _match(_field(protocol, "daddr"), _any_of(targets)),
                {"snat": {"family": protocol, "addr": _field(protocol, "saddr")}},
            )
        )
    return rules


def _masquerade_rules(interface: str, ranges: Iterable[Network], kept: Iterable[Network]) -> list[Json]:
    """Machines of an advertised range need no way back to the mesh; pods whose addresses are kept have one.

    The interface a packet came in by is known after routing since Linux 5.7.
    """
    targets, exempt = disjoint(ranges), disjoint(kept)
    rules: list[Json] = []
    for version, protocol in _IP_PROTOCOL.items():
        kept_here = [n for n in exempt if n.version == version]
        to = [n for n in targets if n.version == version and not any(_inside(n, k) for k in kept_here)]
        if not to:
            continue
        inside = [k for k in kept_here if any(k.overlaps(n) for n in to)]
        matches = [_meta("iifname", interface)]
        if to[0].prefixlen:
            matches.append(_match(_field(protocol, "daddr"), _any_of(to)))
        elif not inside:
            matches.append(_meta("nfproto", f"ipv{version}"))
        if inside:
            matches.append(_match(_field(protocol, "daddr"), _any_of(inside), "!="))
        rules.append(_rule(MASQUERADE, *matches, {"masquerade": None}))
    return rules


def _inside(network: Network, other: Network) -> bool:
    return other.prefixlen <= network.prefixlen and network.network_address in other


def _clamp_rules(interface: str) -> list[Json]:
    segment = {"tcp option": {"name": "maxseg", "field": "size"}}
    syn = _match({"&": [_field("tcp", "flags"), ["syn", "rst"]]}, "syn")
    return [
        _rule(
            CLAMP,
            _meta(direction, interface),
            _meta("nfproto", f"ipv{version}"),
            syn,
            _match(segment, MTU - _HEADER_BYTES[version], ">"),
            {"mangle": {"key": segment, "value": MTU - _HEADER_BYTES[version]}},
        )
        for direction in ("iifname", "oifname")
        for version in (4, 6)
    ]


def _untracked_rules(listen_port: int) -> list[Json]:
    loopback = {"prefix": {"addr": "127.0.0.0", "len": 8}}
    return [
        _rule(
            chain,
            _meta(direction, "lo"),
            _match(_field("ip", "daddr"), loopback),
            _match(_field("udp", port), listen_port),
            {"notrack": None},
        )
        for chain, _, direction in UNTRACKED
        for port in ("dport", "sport")
    ]


def _inbound_rules(
    interface: str, allowances: Iterable[Allowance], local: Iterable[Span], own: Iterable[Span]
) -> list[Json]:
    hook = _rule(HOOK_CHAIN, _meta("iifname", interface), {"goto": {"target": INBOUND}})
    return [hook, *(_rule(INBOUND, *each) for each in inbound_expressions(allowances, local, own))]


def ruleset(
    interface: str,
    listen_port: int,
    keep_source_of: Iterable[Network],
    remote: Iterable[Network],
    allowances: Iterable[Allowance] = (),
    own: Iterable[Network] = (),
    served: Iterable[Network] = (),
    masqueraded: Iterable[Network] = (),
) -> Ruleset:
    """`allowances` may reach own addresses and the ranges that this node serves; the rest is dropped.

    Machines in the `masqueraded` ranges see this host in place of the members of the mesh, but for those
    whose own source is kept.
    """
    keep_source_of = tuple(keep_source_of)
    objects: list[Mapping[str, Any]] = [
        {"table": {"family": FAMILY, "name": TABLE}},
        _chain(KEEP_SOURCE, "nat", "postrouting", BEFORE_MASQUERADE),
        _chain(MASQUERADE, "nat", "postrouting", BEFORE_MASQUERADE),
        _chain(CLAMP, "filter", "forward", MANGLE),
    ]
    objects += [_chain(name, "filter", hook, RAW) for name, hook, _ in UNTRACKED]
    objects += [
        _chain(HOOK_CHAIN, "filter", "prerouting", INBOUND_PRIORITY),
        {"chain": {"family": FAMILY, "table": TABLE, "name": INBOUND}},
    ]
    objects += _keep_source_rules(interface, keep_source_of, remote)
    objects += _masquerade_rules(interface, masqueraded, keep_source_of)
    objects += _clamp_rules(interface)
    objects += _untracked_rules(listen_port)
    objects += _inbound_rules(interface, allowances, map(Span.of, (*own, *served)), map(Span.of, own))
    return Ruleset(tuple(objects))
