"""One line for each change an administrator makes: who, what, before and after. Never a secret."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from warren_control.api.problems import ACTOR

logger = logging.getLogger(__name__)

_SECRET: Final = frozenset({"key", "token", "secret_hash"})


def changed(
    request: web.Request,
    target: str,
    before: msgspec.Struct | Mapping[str, Any] | None,
    after: msgspec.Struct | Mapping[str, Any] | None,
) -> None:
    """Logs the fields that differ; `None` before or after means that there was or is no such record."""
    old, new = _open(before), _open(after)
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if not differing:
        return
    actor = ACTOR.get()
    logger.info(
        "changed by an administrator",
        extra={
            "who": actor.name if actor is not None else "unknown",
            "endpoint": request.remote or "local",
            "action": request.method,
            "target": target,
            "before": {name: old[name] for name in differing if name in old},
            "after": {name: new[name] for name in differing if name in new},
        },
    )


def _open(record: msgspec.Struct | Mapping[str, Any] | None) -> dict[str, Any]:
    document = msgspec.to_builtins(record or {})
    return {name: value for name, value in document.items() if name not in _SECRET}
