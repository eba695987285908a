"""Who the other relays of a region are, when a DNS name says it, such as a headless Service.

DNS may lag by its caches, so a relay that calls us with the region's key is called back before DNS names it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from .relay_links import Peer, RelayLinks

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
CALLER_SECONDS: Final = 60.0
"""Longer than the caches of a cluster's DNS keep what was true."""
MAX_PEERS: Final = 64

Resolve = Callable[[str], Awaitable[list[str]]]
"""The addresses of a name; OSError if there is no answer."""


async def resolve(name: str) -> list[str]:
    """Both families, as the system resolves names."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


class RegionDiscovery:
    """Tells `links` whom to follow: `fixed` peers, whom `name` names, and who called lately."""

    def __init__(
        self,
        links: RelayLinks,
        name: str,
        port: int,
        *,
        fixed: Iterable[Peer] = (),
        certificate_name: str = "",
        resolve: Resolve = resolve,
        look_seconds: float = LOOK_SECONDS,
        caller_seconds: float = CALLER_SECONDS,
    ) -> None:
        self._links = links
        self._name = name
        self._port = port
        self._fixed = tuple(fixed)
        self._certificate_name = certificate_name
        self._resolve = resolve
        self._look_seconds = look_seconds
        self._caller_seconds = caller_seconds
        self._named: list[str] = []
        self._callers: dict[str, float] = {}
        self._reachable = True
        self.has_looked = False

    async def run(self) -> None:
        """Look for ever. While the name has no answer, those it named last stay."""
        while True:
            await self._look()
            self._tell()
            self.has_looked = True
            await asyncio.sleep(self._look_seconds)

    def called_by(self, address: str) -> None:
        """A relay at this address proved the region's key."""
        if not address or address in self._named:
            return
        is_new = address not in self._callers
        self._callers[address] = asyncio.get_running_loop().time()
        if is_new:
            self._tell()

    async def _look(self) -> None:
        try:
            self._named = await self._resolve(self._name)
        except OSError as error:
            self._note(False, error.strerror or str(error))
        else:
            self._note(True, "")

    def _tell(self) -> None:
        oldest = asyncio.get_running_loop().time() - self._caller_seconds
        self._callers = {each: at for each, at in self._callers.items() if at > oldest}
        addresses = dict.fromkeys((*self._named, *self._callers))
        if len(addresses) > MAX_PEERS:
            logger.warning(
                "too many relays in the region, some are left out", extra={"count": len(addresses)}
            )
        peers = [self._peer(address) for address in list(addresses)[:MAX_PEERS]]
        self._links.follow((*self._fixed, *peers))

    def _peer(self, address: str) -> Peer:
        return Peer(f"{address}:{self._port}", address, self._port, certificate_name=self._certificate_name)

    def _note(self, reachable: bool, reason: str) -> None:
        if reachable != self._reachable:
            self._reachable = reachable
            if reachable:
                logger.info("the region's name has addresses again", extra={"relay": self._name})
            else:
                logger.warning(
                    "the region's name has no addresses", extra={"relay": self._name, "reason": reason}
                )
