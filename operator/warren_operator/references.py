"""Which Meshes read which ConfigMap, so that its change makes somebody look. Found again after a restart."""

from __future__ import annotations

Name = tuple[str, str]


class ConfigMapReaders:
    """A Mesh reads at most one."""

    def __init__(self) -> None:
        self._read: dict[Name, str] = {}

    def follow(self, namespace: str, mesh: str, config_map: str | None) -> None:
        if config_map is None:
            self._read.pop((namespace, mesh), None)
        else:
            self._read[(namespace, mesh)] = config_map

    def of(self, namespace: str, config_map: str) -> list[str]:
        """The names of the Meshes that read it."""
        return [
            mesh for (where, mesh), read in self._read.items() if (where, read) == (namespace, config_map)
        ]
