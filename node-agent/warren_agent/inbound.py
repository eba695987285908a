"""What may come in from the mesh: the network map's packet filter as allowances. Pure.

The receiving node applies it to new flows; replies pass by connection tracking. One bad entry of a rule is
left out and reported, the rest of the rule stays. What no rule allows is dropped, also if there is no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from warren_agent.host import Network
from warren_wire.addresses import parse_prefix
from warren_wire.control.messages import FilterRule, NetPortRange
from warren_wire.control.netmap import Netmap
from warren_wire.control.node import Node
from warren_wire.errors import DecodeError

ANY: Final = "*"
CAPABILITY: Final = "cap:"
ICMP: Final = {4: 1, 6: 58}
DEFAULT_PROTOCOLS: Final = frozenset((1, 6, 17, 58))
LAST_PORT: Final = 65535
LAST_ADDRESS: Final = {4: 2**32 - 1, 6: 2**128 - 1}
WITH_PORTS: Final = {6: "tcp", 17: "udp", 132: "sctp"}


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Addresses of one family from `first` to `last`, both included."""

    version: int
    first: int
    last: int

    @classmethod
    def of(cls, network: Network) -> Span:
        return cls(network.version, int(network.network_address), int(network.broadcast_address))


@dataclass(frozen=True, slots=True, order=True)
class Ports:
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """One rule: these sources may open flows of these protocols to these destinations."""

    sources: tuple[Span, ...]
    destinations: tuple[tuple[Span, Ports], ...]
    protocols: frozenset[int]


@dataclass(frozen=True, slots=True)
class PacketFilter:
    allowances: tuple[Allowance, ...] = ()
    problems: tuple[str, ...] = ()


EVERYTHING: Final = tuple(Span(version, 0, last) for version, last in LAST_ADDRESS.items())
DENY_ALL: Final = PacketFilter()


def merged(spans: Iterable[Span]) -> list[Span]:
    """In order, with neighbours and overlaps joined: nftables refuses overlapping elements of a set."""
    found: list[Span] = []
    for span in sorted(spans):
        last = found[-1] if found else None
        if last is not None and last.version == span.version and span.first <= last.last + 1:
            found[-1] = Span(last.version, last.first, max(last.last, span.last))
        else:
            found.append(span)
    return found


def common(spans: Iterable[Span], others: Sequence[Span]) -> list[Span]:
    """What lies in both."""
    pairs = ((a, b) for a in spans for b in others if a.version == b.version)
    return merged(
        Span(a.version, max(a.first, b.first), min(a.last, b.last))
        for a, b in pairs
        if a.first <= b.last and b.first <= a.last
    )


def packet_filter(netmap: Netmap) -> PacketFilter:
    """The rules of a map. A rule with fields of a retired form makes all rules void, as for stock clients."""
    rules = netmap.rules
    if any(rule.src_bits is not None or _has_bits(rule) for rule in rules):
        return PacketFilter((), ("packet filter: SrcBits and Bits are not understood, nothing may come in",))
    problems: list[str] = []
    reader = _Reader(netmap, problems)
    found = [allowance for rule in rules if (allowance := reader.allowance(rule)) is not None]
    return PacketFilter(tuple(found), tuple(dict.fromkeys(problems)))


def _has_bits(rule: FilterRule) -> bool:
    return any(target.bits is not None for target in rule.dst_ports or ())


class _Reader:
    def __init__(self, netmap: Netmap, problems: list[str]) -> None:
        self._netmap = netmap
        self._problems = problems

    def allowance(self, rule: FilterRule) -> Allowance | None:
        """None for a rule that allows no packet: one without destinations only grants capabilities."""
        sources = merged(self._each(rule.src_ips or (), self._source))
        destinations = [
            (span, Ports(target.ports.first, target.ports.last))
            for target in rule.dst_ports or ()
            if self._has_ports(target)
            for span in self._each((target.ip,), _spans)
        ]
        protocols = frozenset(rule.ip_proto) if rule.ip_proto else DEFAULT_PROTOCOLS
        if not sources or not destinations:
            return None
        return Allowance(
            tuple(sources),
            tuple(dict.fromkeys(destinations)),
            frozenset(p for p in protocols if 0 <= p < 256),
        )

    def _has_ports(self, target: NetPortRange) -> bool:
        if 0 <= target.ports.first <= target.ports.last <= LAST_PORT:
            return True
        self._problems.append(f"packet filter: ports {target.ports.first}-{target.ports.last} are not valid")
        return False

    def _each(self, texts: Iterable[str], read: Callable[[str], Iterable[Span]]) -> Iterable[Span]:
        for text in texts:
            try:
                yield from read(text)
            except DecodeError:
                self._problems.append(f"packet filter: {text[:50]!r} is not valid")

    def _source(self, text: str) -> Iterable[Span]:
        if not text.startswith(CAPABILITY):
            return _spans(text)
        capability = text.removeprefix(CAPABILITY)
        holders = (node for node in self._netmap.peers.values() if _has_capability(node, capability))
        return [Span.of(parse_prefix(address)) for node in holders for address in node.addresses or ()]


def _has_capability(node: Node, capability: str) -> bool:
    return capability in (node.cap_map or ()) or capability in (node.capabilities or ())


def _spans(text: str) -> Iterable[Span]:
    """An address, a prefix, a range `first-last`, or `*` for all of both families."""
    if text == ANY:
        return EVERYTHING
    if "-" in text:
        first, _, last = text.partition("-")
        return [_range(_address(first), _address(last))]
    if "/" in text:
        return [Span.of(parse_prefix(text))]
    address = _address(text)
    return [_range(address, address)]


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise DecodeError("not an address") from error


def _range(first: IPv4Address | IPv6Address, last: IPv4Address | IPv6Address) -> Span:
    if first.version != last.version or int(first) > int(last):
        raise DecodeError("not a range")
    return Span(first.version, int(first), int(last))
