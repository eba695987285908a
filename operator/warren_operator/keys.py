"""What the operator looks at, as keys of its work queue."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeshKey:
    """A Mesh: its objects and its status."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"Mesh {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class MembersKey:
    """The machines and relay regions of a managed Mesh, at its control server."""

    namespace: str
    mesh: str

    def __str__(self) -> str:
        return f"members of {self.namespace}/{self.mesh}"


@dataclass(frozen=True, slots=True)
class RelayKey:
    """A DerpRelay: its objects and its status."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"DerpRelay {self.namespace}/{self.name}"


Key = MeshKey | MembersKey | RelayKey
