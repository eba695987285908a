"""Addresses in the headers of HTTP proxies: `X-Forwarded-For`, and `Forwarded` (RFC 7239). No I/O.

Each proxy appends who called it, so the last hop was added by the nearest proxy. Only whoever knows its
proxies may believe any of it.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from warren_wire.addresses import parse_address
from warren_wire.errors import DecodeError

Hop = IPv4Address | IPv6Address | None
"""None: hidden, unknown or malformed."""

_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = re.compile(rf'[ \t]*({_NAME})=(?:"((?:[^"\\]|\\.)*)"|({_NAME}))[ \t]*')
_SEPARATOR: Final = re.compile(r"[;,]|$")
_PORT: Final = re.compile(r":[0-9]{1,5}")


def x_forwarded_for(value: str) -> list[Hop]:
    """The hops of a header, the client's first."""
    return [_node(text.strip(" \t")) for text in value.split(",")] if value.strip(" \t") else []


def forwarded(value: str) -> list[Hop]:
    """The hops of a header, the client's first. A malformed header is one hop that nobody knows."""
    hops: list[Hop] = []
    current: Hop = None
    position, end = 0, len(value)
    while position < end:
        pair = _PAIR.match(value, position)
        if pair is None:
            return [None]
        if pair[1].lower() == "for":
            quoted = pair[2]
            current = _node(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else pair[3])
        position = pair.end()
        mark = _SEPARATOR.match(value, position)
        if mark is None:
            return [None]
        if mark[0] != ";":
            hops.append(current)
            current = None
        position += 1
    return hops


def _node(text: str) -> Hop:
    """`192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`."""
    host = text
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        if not closed or (port and not _PORT.fullmatch(port)) or ":" not in host:
            return None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        if not _PORT.fullmatch(f":{port}"):
            return None
    try:
        address = parse_address(host)
    except DecodeError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
