"""kopf's handlers and nothing else: what happened becomes a key to look at.

Only `on.event` is used. kopf then keeps no progress in annotations and adds no finalizer, and missing an
event costs at most a resync. Handlers are coroutines: the work queue belongs to the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from warren_operator.handlers import configmap, derprelay, mesh, node
from warren_operator.keys import Key
from warren_operator.references import ConfigMapReaders

Poke = Callable[[Key], None]


def registry(poke: Poke, config_maps: ConfigMapReaders) -> kopf.OperatorRegistry:
    """All handlers; `poke` is called for each thing that needs a look."""
    made = kopf.OperatorRegistry()
    kopf.on.login(registry=made)(login)
    for part in (mesh, node, derprelay):
        part.register(made, poke)
    configmap.register(made, poke, config_maps)
    return made


def login(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo | None:
    """As a pod if we are one, else as the person whose kubeconfig it is."""
    return kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
