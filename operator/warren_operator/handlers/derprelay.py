"""DerpRelay objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from warren_operator.keys import Key, RelayKey
from warren_operator.kinds import GROUP, VERSION


def register(registry: kopf.OperatorRegistry, poke: Callable[[Key], None]) -> None:
    @kopf.on.event(GROUP, VERSION, "derprelays", registry=registry)
    async def relay_changed(namespace: str | None, name: str | None, **_: Any) -> None:
        if namespace and name:
            poke(RelayKey(namespace, name))
