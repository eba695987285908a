"""The Node resource as a typed value."""

from __future__ import annotations

from dataclasses import dataclass

from warren_operator.errors import InvalidResourceError
from warren_operator.kinds import Manifest
from warren_operator.naming import FIELD_MANAGER, MANAGED_BY
from warren_operator.resources.reading import Reader


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a person asked for; nothing means: as it is at the control server."""

    name: str | None
    tags: tuple[str, ...] | None
    approved_routes: tuple[str, ...] | None
    disabled: bool | None
    addresses: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class NodeResource:
    name: str
    namespace: str
    generation: int
    manifest: Manifest
    mesh: str
    spec: NodeSpec
    machine_id: int | None
    """The machine it is bound to, from its status."""
    deleting: bool
    made_by_operator: bool

    @property
    def wanted_name(self) -> str:
        return self.spec.name or self.name


def parse_node(manifest: Manifest) -> NodeResource:
    problems: list[str] = []
    metadata = manifest["metadata"]
    spec = Reader(manifest.get("spec"), "spec", problems)
    addresses = spec.child("addresses")
    pinned = tuple(addresses.text(family) for family in ("v4", "v6") if addresses.has(family))
    node = NodeResource(
        name=metadata["name"],
        namespace=metadata["namespace"],
        generation=metadata.get("generation", 0),
        manifest=manifest,
        mesh=spec.child("meshRef").text("name"),
        spec=NodeSpec(
            name=spec.optional_text("name"),
            tags=spec.texts("tags") if spec.has("tags") else None,
            approved_routes=spec.texts("approvedRoutes") if spec.has("approvedRoutes") else None,
            disabled=spec.flag("disabled", False) if spec.has("disabled") else None,
            addresses=pinned or None,
        ),
        machine_id=Reader(manifest.get("status"), "status", problems).optional_number("id"),
        deleting="deletionTimestamp" in metadata,
        made_by_operator=(metadata.get("labels") or {}).get(MANAGED_BY) == FIELD_MANAGER,
    )
    if problems:
        raise InvalidResourceError(problems)
    return node
