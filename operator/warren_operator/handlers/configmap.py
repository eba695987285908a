"""ConfigMaps that Meshes read their policies from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from warren_operator.keys import Key, MeshKey
from warren_operator.references import ConfigMapReaders


def register(
    registry: kopf.OperatorRegistry, poke: Callable[[Key], None], config_maps: ConfigMapReaders
) -> None:
    def is_read(namespace: str | None, name: str | None, **_: Any) -> bool:
        return bool(namespace and name and config_maps.of(namespace, name))

    # A cluster has many, and some change every few seconds: only those that are read wake anybody.
    @kopf.on.event("v1", "configmaps", when=is_read, registry=registry)
    async def config_map_changed(namespace: str | None, name: str | None, **_: Any) -> None:
        for mesh in config_maps.of(namespace or "", name or ""):
            poke(MeshKey(namespace or "", mesh))
