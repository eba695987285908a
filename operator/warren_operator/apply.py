"""Carries out what was planned; one refusal does not keep the rest from being done."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import assert_never

from warren_operator import metrics
from warren_operator.cluster import Cluster
from warren_operator.desired.secrets import SecretChange
from warren_operator.errors import ConflictError, RefusedError
from warren_operator.kinds import Kind
from warren_operator.plan import Action, Apply, Delete, without_nulls

logger = logging.getLogger(__name__)


async def apply(cluster: Cluster, actions: Sequence[Action]) -> list[str]:
    """What the API server refused; a person has to change something. Outages are raised."""
    refused = []
    for action in actions:
        try:
            await _run(cluster, action)
        except (RefusedError, ConflictError) as error:
            refused.append(str(error))
            metrics.ACTIONS.labels(_verb(action), "refused").inc()
        else:
            metrics.ACTIONS.labels(_verb(action), "done").inc()
            logger.info("applied", extra={"action": str(action)})
    return refused


async def write_secrets(cluster: Cluster, namespace: str, changes: Sequence[SecretChange]) -> bool:
    """Whether all are written. If not, someone else was faster and the next round sees what they wrote."""
    complete = True
    for change in changes:
        name = change.manifest["metadata"]["name"]
        try:
            if change.exists:
                await cluster.merge(Kind.SECRET, namespace, name, change.manifest)
            else:
                await cluster.create(Kind.SECRET, change.manifest)
        except ConflictError:
            complete = False
        else:
            logger.info("secret written", extra={"secret": name})
    return complete


def _verb(action: Action) -> str:
    return "apply" if isinstance(action, Apply) else "delete"


async def _run(cluster: Cluster, action: Action) -> None:
    match action:
        case Apply(manifest, removal):
            metadata = manifest["metadata"]
            if removal is not None:
                await cluster.merge(Kind.of(manifest), metadata["namespace"], metadata["name"], removal)
            await cluster.apply(without_nulls(manifest))
        case Delete(kind, namespace, name, uid):
            await cluster.delete(kind, namespace, name, uid)
        case _:
            assert_never(action)
