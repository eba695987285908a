"""The packet filter as nftables rules of the agent's table. Pure.

They stand before destination NAT, so that a Service's address is judged and not the pod behind it, and after
connection tracking, so that replies pass. Destinations that are not this node's are never allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, summarize_address_range
from typing import Any, Final

from warren_agent.inbound import (
    ICMP,
    LAST_ADDRESS,
    LAST_PORT,
    WITH_PORTS,
    Allowance,
    Ports,
    Span,
    common,
    merged,
)

HOOK_CHAIN: Final = "inbound"
CHAIN: Final = "from-mesh"
PRIORITY: Final = -150
"""After connection tracking at -200 and before destination NAT at -100."""
TSMP: Final = 99
_FIELD: Final = {4: "ip", 6: "ip6"}
_ALL_PORTS: Final = (Ports(0, LAST_PORT),)

Json = dict[str, Any]


def inbound_expressions(
    allowances: Iterable[Allowance], local: Iterable[Span], own: Iterable[Span] = ()
) -> list[list[Json]]:
    """The rules of `CHAIN`, in order; `local` are this node's addresses and the ranges it serves, `own` its
    addresses alone."""
    ours = merged(local)
    established = _match({"ct": {"key": "state"}}, ["established", "related"], "in")
    found: list[list[Json]] = [[established, {"accept": None}], *_signals(own)]
    for allowance in allowances:
        for version in (4, 6):
            for expressions in _of_family(allowance, ours, version):
                if expressions not in found:
                    found.append(expressions)
    return [*found, [{"drop": None}]]


def _signals(own: Iterable[Span]) -> Iterable[list[Json]]:
    """Signals between node programs are no traffic of anybody's: they pass without a rule, as with stock
    peers, but to this node alone."""
    spans = merged(own)
    for version in (4, 6):
        ours = [span for span in spans if span.version == version]
        if ours:
            yield [
                _match(_payload(_FIELD[version], "daddr"), _any_of(map(_addresses, ours))),
                _protocol(TSMP),
                {"accept": None},
            ]


def _of_family(allowance: Allowance, local: Sequence[Span], version: int) -> Iterable[list[Json]]:
    sources = [span for span in allowance.sources if span.version == version]
    if not sources:
        return
    by_ports = _by_ports(allowance, local, version)
    # An ICMP request passes if a rule covers its addresses, whatever its protocols and ports.
    anywhere = merged(span for spans in by_ports.values() for span in spans)
    if anywhere:
        yield [*_between(sources, anywhere, version), _protocol(ICMP[version]), {"accept": None}]
    for ports, destinations in by_ports.items():
        between = _between(sources, destinations, version)
        for number in sorted(allowance.protocols - set(ICMP.values())):
            name = WITH_PORTS.get(number)
            if ports == _ALL_PORTS:
                yield [*between, _protocol(number), {"accept": None}]
            elif name is not None:
                yield [*between, _ports(name, ports), {"accept": None}]


def _by_ports(
    allowance: Allowance, local: Sequence[Span], version: int
) -> dict[tuple[Ports, ...], list[Span]]:
    """Destinations that are ours, those with the same ports together."""
    ports_of: dict[Span, list[Ports]] = {}
    for span, ports in allowance.destinations:
        if span.version == version:
            for part in common([span], local):
                ports_of.setdefault(part, []).append(ports)
    found: dict[tuple[Ports, ...], list[Span]] = {}
    for part, several in ports_of.items():
        found.setdefault(_joined(several), []).append(part)
    return {ports: merged(spans) for ports, spans in found.items()}


def _joined(several: Iterable[Ports]) -> tuple[Ports, ...]:
    found: list[Ports] = []
    for ports in sorted(several):
        if found and ports.first <= found[-1].last + 1:
            found[-1] = Ports(found[-1].first, max(found[-1].last, ports.last))
        else:
            found.append(ports)
    return tuple(found)


def _between(sources: Sequence[Span], destinations: Sequence[Span], version: int) -> list[Json]:
    """Matches of both addresses; of the family alone where any address will do."""
    found = [
        _match(_payload(_FIELD[version], field), _any_of(map(_addresses, spans)))
        for field, spans in (("saddr", sources), ("daddr", destinations))
        if not _is_all(spans)
    ]
    return found or [_match({"meta": {"key": "nfproto"}}, f"ipv{version}")]


def _is_all(spans: Sequence[Span]) -> bool:
    return spans[0].first == 0 and spans[0].last == LAST_ADDRESS[spans[0].version]


def _match(left: Json, right: object, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def _payload(protocol: str, field: str) -> Json:
    return {"payload": {"protocol": protocol, "field": field}}


def _protocol(number: int) -> Json:
    """By number: names need a file of the host that small images lack."""
    return _match({"meta": {"key": "l4proto"}}, number)


def _ports(protocol: str, several: Sequence[Ports]) -> Json:
    values: list[object] = [p.first if p.first == p.last else {"range": [p.first, p.last]} for p in several]
    return _match(_payload(protocol, "dport"), _any_of(values))


def _addresses(span: Span) -> object:
    """As nftables lists it: an address, a prefix, or a range that is none."""
    kind = IPv4Address if span.version == 4 else IPv6Address
    first, last = kind(span.first), kind(span.last)
    if span.first == span.last:
        return str(first)
    prefixes = list(_prefixes(first, last))
    if len(prefixes) == 1:
        return {"prefix": {"addr": str(first), "len": prefixes[0]}}
    return {"range": [str(first), str(last)]}


def _prefixes(first: IPv4Address | IPv6Address, last: IPv4Address | IPv6Address) -> Iterable[int]:
    if isinstance(first, IPv4Address) and isinstance(last, IPv4Address):
        return (network.prefixlen for network in summarize_address_range(first, last))
    if isinstance(first, IPv6Address) and isinstance(last, IPv6Address):
        return (network.prefixlen for network in summarize_address_range(first, last))
    raise AssertionError("a span has one family")


def _any_of(values: Iterable[object]) -> object:
    """nftables lists a set of one as its element."""
    members = list(values)
    return members[0] if len(members) == 1 else {"set": members}
