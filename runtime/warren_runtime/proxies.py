"""Whose connection it is when a proxy stands in front. Only what a configured proxy says counts.

A proxy of connections says it before everything else (the PROXY protocol), one of requests in a header.
"""

from __future__ import annotations

import contextvars
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from warren_wire.addresses import parse_address, parse_prefix
from warren_wire.errors import DecodeError
from warren_wire.forwarded import Hop, forwarded, x_forwarded_for

from .settings import Section

Network = IPv4Network | IPv6Network


class ForwardedHeader(enum.Enum):
    """The one header that the proxies write: any other comes from the client as it is."""

    X_FORWARDED_FOR = "x-forwarded-for"
    FORWARDED = "forwarded"
    NONE = "none"


_READERS: Final[Mapping[ForwardedHeader, Callable[[str], list[Hop]]]] = {
    ForwardedHeader.X_FORWARDED_FOR: x_forwarded_for,
    ForwardedHeader.FORWARDED: forwarded,
}


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies in front. With `proxy_protocol` each of their connections begins with a PROXY header."""

    networks: tuple[Network, ...] = ()
    header: ForwardedHeader = ForwardedHeader.X_FORWARDED_FOR
    proxy_protocol: bool = False

    def trusts(self, peer: str) -> bool:
        address = parsed(peer)
        return address is not None and self._holds(address)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address of whoever sent a request that came from `peer`: the last hop that is no proxy.

        `headers` must be found by lower-case names.
        """
        read = _READERS.get(self.header)
        if read is None or not self.trusts(peer):
            return peer
        source = peer
        for hop in reversed(read(headers.get(self.header.value, ""))):
            if hop is None:
                break
            source = str(hop)
            if not self._holds(hop):
                break
        return source

    def _holds(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.networks)


def read_proxies(section: Section) -> Proxies:
    """The settings `trusted_proxies`, `forwarded_header` and `proxy_protocol` of a section."""
    networks = []
    for text in section.list_of_texts("trusted_proxies"):
        try:
            networks.append(parse_prefix(text))
        except DecodeError:
            section.problem("trusted_proxies", f"{text!r} is not a range such as 10.0.0.0/8")
    header = section.choice(
        "forwarded_header", [each.value for each in ForwardedHeader], ForwardedHeader.X_FORWARDED_FOR.value
    )
    proxy_protocol = section.boolean("proxy_protocol", False)
    if proxy_protocol and not networks:
        section.problem("proxy_protocol", "needs trusted_proxies: only their word counts")
    return Proxies(tuple(networks), ForwardedHeader(header), proxy_protocol)


def parsed(peer: str) -> IPv4Address | IPv6Address | None:
    """An address as sockets write it; None for a Unix socket's."""
    try:
        return parse_address(peer.partition("%")[0])
    except DecodeError:
        return None


connection_peer: contextvars.ContextVar[str] = contextvars.ContextVar("connection_peer")
"""Set while a connection is handed to the web application, whose task for it inherits the value."""


def client_middleware(proxies: Proxies) -> Middleware:
    """Makes `request.remote` the client's address."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = connection_peer.get(request.remote or "")
        client = proxies.client(peer, request.headers)
        if client and client != request.remote:
            request = request.clone(remote=client)
        return await handler(request)

    return middleware
