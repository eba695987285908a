"""Node objects: written by people, or by the operator for machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from warren_operator.keys import Key, MembersKey
from warren_operator.kinds import GROUP, VERSION


def register(registry: kopf.OperatorRegistry, poke: Callable[[Key], None]) -> None:
    @kopf.on.event(GROUP, VERSION, "nodes", registry=registry)
    async def node_changed(namespace: str | None, spec: kopf.Spec, **_: Any) -> None:
        mesh = (spec.get("meshRef") or {}).get("name")
        if namespace and isinstance(mesh, str):
            poke(MembersKey(namespace, mesh))
