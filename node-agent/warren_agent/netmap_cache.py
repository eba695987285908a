"""The last network map on disk: a restarted agent works with its peers though the control server is away."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from warren_agent.errors import StateError
from warren_agent.keystore import write_private
from warren_wire.control.codec import encode
from warren_wire.control.map_reader import read_map_response
from warren_wire.control.netmap import EMPTY, Netmap, apply, snapshot
from warren_wire.errors import WireError
from warren_wire.keys import NodePublic

logger = logging.getLogger(__name__)

FILE_NAME: Final = "netmap.json"
WRITE_SECONDS: Final = 2.0
"""The map is written at most this often, and tried again as often where it could not be."""
MAX_FILE_BYTES: Final = 64 * 1024 * 1024


def save(state_dir: Path, netmap: Netmap) -> None:
    """Raises `StateError`."""
    write_private(state_dir / FILE_NAME, encode(snapshot(netmap)))


def load(state_dir: Path, node: NodePublic) -> Netmap | None:
    """The map of this node key; a file that cannot be used is as good as none."""
    path = state_dir / FILE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise StateError("it is too large")
        netmap = apply(EMPTY, read_map_response(data).response)
    except FileNotFoundError:
        return None
    except (OSError, WireError, StateError) as error:
        logger.warning("cached network map not used", extra={"reason": str(error)})
        return None
    return netmap if netmap.self_node is not None and netmap.self_node.key == node else None


class NetmapWriter:
    """Keeps the file up with the newest map. `error` says why it is behind; None while it is not."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._newest: Netmap | None = None
        self._due = asyncio.Event()
        self.error: str | None = None

    def put(self, netmap: Netmap) -> None:
        """A map from the control server; written soon."""
        self._newest = netmap
        self._due.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self.flush()
            await asyncio.sleep(WRITE_SECONDS)

    async def flush(self) -> None:
        """Write the newest map now, if there is one."""
        newest = self._newest
        if newest is None:
            return
        try:
            await asyncio.to_thread(save, self._state_dir, newest)
        except StateError as error:
            if self.error is None:
                logger.warning("network map not cached", extra={"reason": str(error)})
            self.error = f"the network map is not cached: {error}"
            self._due.set()
        else:
            self.error = None


def forget(state_dir: Path) -> None:
    (state_dir / FILE_NAME).unlink(missing_ok=True)
