"""Which Mesh's agents have the hosts of this cluster. Pure.

Agents of two Meshes on one host would share its interface, port, routing table and firewall table, so there
can be one Mesh with agents in a cluster: the one whose agents run, else the oldest.
"""

from __future__ import annotations

from collections.abc import Iterable

from warren_operator.kinds import Manifest


def holder(meshes: Iterable[Manifest]) -> Manifest | None:
    """The Mesh whose agents may run; one that is being deleted has them until its hosts are clean."""
    return min((mesh for mesh in meshes if _wants(mesh) or _runs(mesh)), key=_precedence, default=None)


def taken_by(mesh: Manifest, meshes: Iterable[Manifest]) -> str | None:
    """The other Mesh, as `NAMESPACE/NAME`, that keeps this one from having agents."""
    found = holder([mesh, *(other for other in meshes if _uid(other) != _uid(mesh))])
    if found is None or _uid(found) == _uid(mesh):
        return None
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"


def _precedence(mesh: Manifest) -> tuple[bool, str, str]:
    return (not _runs(mesh), mesh["metadata"]["creationTimestamp"], _uid(mesh))


def _wants(mesh: Manifest) -> bool:
    agents = (mesh.get("spec") or {}).get("agents") or {}
    return bool(agents.get("enabled", True)) and "deletionTimestamp" not in mesh["metadata"]


def _runs(mesh: Manifest) -> bool:
    return bool((mesh.get("status") or {}).get("agents"))


def _uid(mesh: Manifest) -> str:
    return str(mesh["metadata"]["uid"])
