"""The last network map on disk: a restarted agent works with its peers though the control server is away."""

from __future__ import annotations

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


def forget(state_dir: Path) -> None:
    (state_dir / FILE_NAME).unlink(missing_ok=True)
