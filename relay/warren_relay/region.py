"""This relay among the others of its region: links to them, and finding them by name."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from warren_runtime.derp_server import DerpService
from warren_runtime.relay_discovery import RegionDiscovery
from warren_runtime.relay_links import Peer, RelayLinks
from warren_runtime.tls import ReloadingTrust

from .config import Mesh

SETTLING_SECONDS: Final = 10.0
"""How long a new relay waits for links before it takes clients all the same."""


class Region:
    """Run `run` as a task of the service."""

    def __init__(self, service: DerpService, mesh: Mesh, mesh_key: str, *, secure: bool) -> None:
        fixed = [Peer(f"{host}:{port}", host, port) for host, port in mesh.peers]
        trust = ReloadingTrust(mesh.ca_file).context if secure else None
        self.links = RelayLinks(service, fixed, mesh_key, trust)
        self._discovery: RegionDiscovery | None = None
        self._ready_at = time.monotonic() + SETTLING_SECONDS
        if mesh.discover is not None:
            self._discovery = RegionDiscovery(
                self.links, *mesh.discover, fixed=fixed, certificate_name=mesh.certificate_name
            )
            service.on_relay = self._discovery.called_by

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.links.run())
            if self._discovery is not None:
                group.create_task(self._discovery.run())

    def problems(self) -> list[str]:
        """Until the others know of our clients, who comes here is not reached from there.

        Only at the start: one relay that is gone must not make all others unready.
        """
        if time.monotonic() >= self._ready_at:
            return []
        looked = self._discovery is None or self._discovery.has_looked
        if looked and self.links.is_settled:
            self._ready_at = 0.0
            return []
        return ["links to the relays of the region are being made"]
