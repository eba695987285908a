"""`/bootstrap-dns`: where the mesh's own servers are, for clients whose resolver fails them.

Only names of this mesh's server and relays are answered: it is no resolver for strangers.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from aiohttp import web

KEPT_SECONDS: Final = 60.0
WAIT_SECONDS: Final = 3.0


class BootstrapDns:
    """Looks names up at most once a minute, whoever asks."""

    def __init__(self, names: Callable[[], frozenset[str]]) -> None:
        self._names = names
        self._known: dict[str, tuple[float, list[str]]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/bootstrap-dns", self.answer)]

    async def answer(self, request: web.Request) -> web.Response:
        names = {name for name in self._names() if not _is_literal(name)}
        asked = request.query.get("q", "").lower().rstrip(".")
        wanted = sorted(names & {asked}) if asked else sorted(names)
        found = await asyncio.gather(*(self._addresses(name) for name in wanted))
        self._known = {name: entry for name, entry in self._known.items() if name in names}
        return web.json_response(dict(zip(wanted, found, strict=True)))

    async def _addresses(self, name: str) -> list[str]:
        now = time.monotonic()
        at, addresses = self._known.get(name, (now - KEPT_SECONDS, []))
        if now - at < KEPT_SECONDS:
            return addresses
        # Entered before the look-up, so that a burst of questions makes one.
        self._known[name] = (now, addresses)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                loop = asyncio.get_running_loop()
                results = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError):
            return addresses
        addresses = sorted({str(result[4][0]) for result in results})
        self._known[name] = (now, addresses)
        return addresses


def _is_literal(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
