"""Addresses of the hosts that must stay reachable without the mesh."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from warren_agent.allotment import Address
from warren_wire.control.messages import DERPMap

FRESH_SECONDS: Final = 300.0
LOOKUP_SECONDS: Final = 5.0


def relay_hosts(derp_map: DERPMap | None) -> frozenset[str]:
    """Names and addresses of every relay."""
    hosts: set[str] = set()
    for region in (derp_map.regions or {}).values() if derp_map is not None else ():
        for node in region.nodes or () if region is not None else ():
            given = {text for text in (node.ipv4, node.ipv6) if text and text != "none"}
            hosts |= given or {node.host_name}
    return frozenset(hosts - {""})


class Resolver:
    """Remembers answers; a name that cannot be looked up keeps its last ones."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, frozenset[Address]]] = {}

    async def addresses(self, hosts: Iterable[str]) -> frozenset[Address]:
        found = await asyncio.gather(*(self._lookup(host) for host in sorted(hosts)))
        return frozenset(address for addresses in found for address in addresses)

    async def _lookup(self, host: str) -> frozenset[Address]:
        try:
            return frozenset({ip_address(host)})
        except ValueError:
            pass
        loop = asyncio.get_running_loop()
        known_at, known = self._known.get(host, (None, frozenset()))
        if known_at is not None and loop.time() - known_at < FRESH_SECONDS:
            return known
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            known = frozenset(ip_address(str(answer[4][0])) for answer in answers)
        except (OSError, ValueError, TimeoutError):
            pass
        self._known[host] = (loop.time(), known)
        return known
