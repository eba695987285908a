"""Keeps one UPnP mapping alive while it is wanted, and gives it back when it is not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from warren_agent.paths.portmap import REST_SECONDS, SHORTEST_SECONDS, Router
from warren_agent.paths.upnp_codec import UpnpError
from warren_agent.transport.upnp import UpnpClient, UpnpMapping
from warren_wire.addresses import AddrPort

logger = logging.getLogger(__name__)

RENEW_FOREVER_SECONDS: Final = 3600.0
"""A mapping without an end is looked at this often: the router may have forgotten it in a restart."""

RELEASE_SECONDS: Final = 3.0


class UpnpKeeper:
    """`want` a router to keep a mapping there. `on_change` is called when `external` has changed."""

    def __init__(self, *, internal_port: int, mark: int, on_change: Callable[[], None]) -> None:
        self._port = internal_port
        self._mark = mark
        self._on_change = on_change
        self._router: Router | None = None
        self._mapping: tuple[UpnpClient, UpnpMapping] | None = None
        self._expires: float | None = None
        self._wake = asyncio.Event()
        self.seen = False
        self.refused = 0

    @property
    def external(self) -> AddrPort | None:
        return self._mapping[1].external if self._mapping is not None else None

    def want(self, router: Router | None) -> None:
        """The router to keep a mapping at; None for none."""
        if router != self._router:
            self._router = router
            self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled. The mapping stays then; `release` gives it back."""
        while True:
            self._wake.clear()
            router = self._router
            if router is None:
                await self.release()
                await self._wake.wait()
                continue
            if self._mapping is not None and self._mapping[0].router != router:
                await self.release()
            pause = await self._renew(UpnpClient(router, mark=self._mark))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def release(self) -> None:
        """Give the mapping back, if there is one."""
        if self._mapping is None:
            return
        client, mapping = self._mapping
        self._set(None)
        with contextlib.suppress(UpnpError, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await client.release(mapping)

    async def _renew(self, client: UpnpClient) -> float:
        """Ask once; how long to wait before the next time."""
        hint = self.external.port if self.external is not None else self._port
        try:
            mapping = await client.map(self._port, hint)
        except UpnpError as error:
            logger.info("no mapping by UPnP", extra={"reason": str(error)})
            mapping, self.seen = None, True
        else:
            self.seen = mapping is not None
        self.refused += client.refused
        if mapping is not None:
            self._expires = time.monotonic() + mapping.lifetime if mapping.lifetime else None
            self._set((client, mapping))
            return max(mapping.lifetime, SHORTEST_SECONDS) / 2 if mapping.lifetime else RENEW_FOREVER_SECONDS
        if self._mapping is not None and (self._expires is None or time.monotonic() >= self._expires):
            self._set(None)
        return REST_SECONDS if self._mapping is None else SHORTEST_SECONDS

    def _set(self, mapping: tuple[UpnpClient, UpnpMapping] | None) -> None:
        before = self.external
        self._mapping = mapping
        if self.external != before:
            self._on_change()
