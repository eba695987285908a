"""Meshes, and the objects made for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from warren_operator.keys import Key, MembersKey, MeshKey, RelayKey
from warren_operator.kinds import GROUP, VERSION
from warren_operator.naming import FIELD_MANAGER, MANAGED_BY, MESH_LABEL, RELAY_LABEL

OURS = {MANAGED_BY: FIELD_MANAGER}


def register(registry: kopf.OperatorRegistry, poke: Callable[[Key], None]) -> None:
    @kopf.on.event(GROUP, VERSION, "meshes", registry=registry)
    async def mesh_changed(namespace: str | None, name: str | None, **_: Any) -> None:
        if namespace and name:
            poke(MeshKey(namespace, name))
            poke(MembersKey(namespace, name))

    @kopf.on.event("apps", "v1", "deployments", labels=OURS, registry=registry)
    @kopf.on.event("apps", "v1", "daemonsets", labels=OURS, registry=registry)
    async def workload_changed(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
        if not namespace:
            return
        if MESH_LABEL in labels:
            poke(MeshKey(namespace, labels[MESH_LABEL]))
        if RELAY_LABEL in labels:
            poke(RelayKey(namespace, labels[RELAY_LABEL]))
