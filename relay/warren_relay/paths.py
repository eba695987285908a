"""What a relay offers: ways to carry packets between nodes, of several kinds.

The program starts, drains and ends them all alike. DERP is one; a relay of UDP datagrams that the kernel
forwards would be another and needs nothing changed here but its kind.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Protocol

from prometheus_client.registry import Collector


class PathKind(enum.Enum):
    """How packets travel; nodes prefer the cheapest that works."""

    DERP = "derp"


class RelayPath(Protocol):
    """One way, from start to end."""

    @property
    def kind(self) -> PathKind: ...

    async def start(self) -> None:
        """Serve; OSError if the address is taken."""

    def problems(self) -> list[str]:
        """Reasons why it is not ready."""

    def stop_accepting(self) -> None:
        """Take no new nodes and tell those there to move; they are still served."""

    @property
    def users(self) -> int:
        """Nodes that are still served."""

    async def close(self) -> None: ...

    def collectors(self) -> Iterable[Collector]:
        """Its metrics."""
