"""What a run of the demo found out: each field is true only if the thing was seen to happen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final


@dataclass(slots=True)
class Facts:
    """Filled as the demo goes on. Times are in seconds."""

    mesh_ready_home: bool = False
    mesh_ready_office: bool = False
    relayed: bool = False
    """The first answer between pods crossed the relay."""
    direct: bool = False
    source_preserved: bool = False
    source_seen: str | None = None
    """The address the page's server saw."""
    relayed_after_udp_cut: bool = False
    direct_again: bool = False
    stock_client_pinged_nodes: bool = False
    stock_client_reached_pod: bool = False
    service_reached: bool = False
    """A Service address of the other cluster answered."""
    removed: bool = False
    """After deleting both meshes nothing of Warren was left on either node."""
    times: dict[str, float] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """The facts that did not come true."""
        return [name for name in REQUIRED if not getattr(self, name)]

    def document(self) -> dict[str, Any]:
        """The facts as JSON-able values, times rounded to milliseconds."""
        return asdict(self) | {"times": {name: round(value, 3) for name, value in self.times.items()}}


REQUIRED: Final = tuple(name for name, kind in Facts.__annotations__.items() if kind == "bool")
