"""A node of the network map with its texts turned into addresses. Pure.

What one member says wrongly costs that entry alone and is reported; the rest of it, and all others, stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from warren_agent.host import Network
from warren_agent.plan import network_order
from warren_wire.addresses import AddrPort, parse_prefix
from warren_wire.control.messages import Node
from warren_wire.errors import DecodeError
from warren_wire.keys import DiscoPublic, NodePublic

# A node with more is broken or hostile; every entry costs a route.
MAX_ROUTES: Final = 1024
MAX_ENDPOINTS: Final = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Member:
    id: int
    name: str
    fqdn: str
    key: NodePublic
    disco: DiscoPublic | None
    addresses: tuple[Network, ...]
    routes: tuple[Network, ...]
    endpoints: tuple[AddrPort, ...]
    home_relay: int
    online: bool
    expired: bool
    tags: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def _parsed(
    texts: Iterable[str] | None, parse: Callable[[str], T], limit: int, what: str, problems: list[str]
) -> list[T]:
    values: list[T] = []
    for number, text in enumerate(texts or ()):
        if number == limit:
            problems.append(f"more than {limit} {what}")
            break
        try:
            values.append(parse(text))
        except DecodeError:
            problems.append(f"{what}: {text[:50]!r} is not valid")
    return values


def _relay(node: Node) -> int:
    """Older servers write the home relay as an address with the region as its port."""
    if node.home_derp:
        return node.home_derp
    magic, _, region = node.derp.rpartition(":")
    return int(region) if magic == "127.3.3.40" and region.isascii() and region.isdigit() else 0


def member_of(node: Node) -> Member:
    problems: list[str] = []
    addresses = _parsed(node.addresses, parse_prefix, MAX_ROUTES, "addresses", problems)
    own = [a for a in addresses if a.prefixlen == a.max_prefixlen]
    if node.allowed_ips is None:
        allowed = list(addresses)
    else:
        allowed = _parsed(node.allowed_ips, parse_prefix, MAX_ROUTES, "allowed addresses", problems)
    fqdn = node.name.rstrip(".")
    return Member(
        id=node.id,
        name=fqdn.split(".")[0] or node.stable_id or str(node.id),
        fqdn=fqdn,
        key=node.key,
        disco=node.disco_key,
        # An address that the peer may not use here (`AllowedIPs: []`) is no address of it for us.
        addresses=tuple(a for a in own if a in set(allowed)),
        routes=tuple(sorted(set(allowed) - set(own), key=network_order)),
        endpoints=tuple(_parsed(node.endpoints, AddrPort.parse, MAX_ENDPOINTS, "endpoints", problems)),
        home_relay=_relay(node),
        online=node.online is True,
        expired=node.expired,
        tags=node.tags or (),
        problems=tuple(problems),
    )


def self_of(node: Node) -> Member:
    """The self node's addresses are its own whatever its allowed addresses say."""
    problems: list[str] = []
    addresses = _parsed(node.addresses, parse_prefix, MAX_ROUTES, "addresses", problems)
    member = member_of(node)
    return Member(
        id=member.id,
        name=member.name,
        fqdn=member.fqdn,
        key=member.key,
        disco=member.disco,
        addresses=tuple(a for a in addresses if a.prefixlen == a.max_prefixlen),
        routes=member.routes,
        endpoints=member.endpoints,
        home_relay=member.home_relay,
        online=member.online,
        expired=member.expired,
        tags=member.tags,
        problems=member.problems,
    )


class MemberReader:
    """Reads each node of one map after the other; one that did not change is not read again."""

    def __init__(self) -> None:
        self._read: dict[int, tuple[Node, Member]] = {}

    def members(self, nodes: Iterable[Node]) -> tuple[Member, ...]:
        read: dict[int, tuple[Node, Member]] = {}
        for node in nodes:
            known = self._read.get(node.id)
            # Maps share what they have in common, and nodes never change.
            read[node.id] = known if known is not None and known[0] is node else (node, member_of(node))
        self._read = read
        return tuple(member for _, member in read.values())
