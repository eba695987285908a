"""Routes of nodes: what counts as approved and which of several routers serves a prefix. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from warren_control.errors import InvalidError

Prefix = IPv4Network | IPv6Network

DEFAULT_V4: Final = IPv4Network("0.0.0.0/0")
DEFAULT_V6: Final = IPv6Network("::/0")
DEFAULTS: Final = frozenset({DEFAULT_V4, DEFAULT_V6})
MAX_ROUTES: Final = 256


def parse_prefix(text: str) -> Prefix:
    """A CIDR without host bits, or `InvalidError`. Stock clients drop rules whose prefixes have host bits."""
    try:
        return ip_network(text, strict=True)
    except ValueError as error:
        raise InvalidError(f"{text!r} is not a network prefix: {error}") from error


def parse_prefixes(texts: Iterable[str]) -> tuple[Prefix, ...]:
    """Prefixes in canonical order without repetition, or `InvalidError` for the first bad one."""
    found = {parse_prefix(text) for text in texts}
    if len(found) > MAX_ROUTES:
        raise InvalidError(f"at most {MAX_ROUTES} routes are accepted")
    return ordered(found)


def readable_prefixes(texts: Iterable[str]) -> tuple[Prefix, ...]:
    """The prefixes a node advertised that can be used; a bad one is left out, not the node."""
    found: set[Prefix] = set()
    for text in texts:
        if len(found) == MAX_ROUTES:
            break
        try:
            found.add(ip_network(text, strict=True))
        except ValueError:
            continue
    return ordered(found)


def ordered(prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """IPv4 first, then by address."""
    return tuple(sorted(prefixes, key=lambda p: (p.version, int(p.network_address), p.prefixlen)))


def covers(wider: Prefix, narrower: Prefix) -> bool:
    """Whether `narrower` lies inside `wider`."""
    if isinstance(wider, IPv4Network):
        return isinstance(narrower, IPv4Network) and narrower.subnet_of(wider)
    return isinstance(narrower, IPv6Network) and narrower.subnet_of(wider)


def auto_approved(advertised: Iterable[Prefix], approvers: Iterable[Prefix]) -> frozenset[Prefix]:
    """Advertised routes inside an approver's prefix. Exit routes always take a person's decision."""
    wide = tuple(approvers)
    return frozenset(
        route
        for route in advertised
        if route not in DEFAULTS and any(covers(approver, route) for approver in wide)
    )


def effective(advertised: Iterable[Prefix], approved: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """Routes that are in force: advertised and approved."""
    return ordered(frozenset(advertised) & frozenset(approved))


def elect(offers: Mapping[Prefix, Mapping[int, bool]], previous: Mapping[Prefix, int]) -> dict[Prefix, int]:
    """Which node serves each prefix. `offers` maps prefix to {node id: online}.

    The node that serves a prefix keeps it while it is online, otherwise the lowest id that is online
    takes over. With nobody online the previous node keeps it, so that a restart of the server takes no
    route away from anyone.
    """
    elected: dict[Prefix, int] = {}
    for prefix, candidates in offers.items():
        if prefix in DEFAULTS or not candidates:
            continue
        current = previous.get(prefix)
        online = [node for node, is_online in candidates.items() if is_online]
        if current in online or (not online and current in candidates):
            assert current is not None
            elected[prefix] = current
        else:
            elected[prefix] = min(online or candidates)
    return elected
