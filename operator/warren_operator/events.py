"""Events for `kubectl describe`: one object per thing to tell, counted up when it happens again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from datetime import datetime

from warren_operator.cluster import Cluster
from warren_operator.conditions import Note, rfc3339
from warren_operator.errors import ClusterError, ConflictError
from warren_operator.kinds import Kind, Manifest
from warren_operator.naming import FIELD_MANAGER, bounded

logger = logging.getLogger(__name__)


async def tell(cluster: Cluster, about: Manifest, notes: Iterable[Note], now: datetime) -> None:
    """An event that cannot be written is no reason to stop: the condition says the same."""
    for note in notes:
        try:
            await _tell(cluster, about, note, now)
        except ClusterError as error:
            logger.warning("event not written", extra={"reason": str(error)})


async def _tell(cluster: Cluster, about: Manifest, note: Note, now: datetime) -> None:
    event = _event(about, note, now)
    namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
    try:
        await cluster.create(Kind.EVENT, event)
    except ConflictError:
        known = await cluster.get(Kind.EVENT, namespace, name) or {}
        patch = {"count": int(known.get("count") or 1) + 1, "lastTimestamp": rfc3339(now)}
        await cluster.merge(Kind.EVENT, namespace, name, patch)


def _event(about: Manifest, note: Note, now: datetime) -> Manifest:
    metadata = about["metadata"]
    told = "\0".join((metadata["uid"], note.reason, note.message))
    digest = hashlib.sha256(told.encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{bounded(metadata['name'], 200)}.{digest}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        },
        "type": "Warning" if note.warning else "Normal",
        "reason": note.reason,
        "message": note.message[:1000],
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": rfc3339(now),
        "lastTimestamp": rfc3339(now),
        "count": 1,
    }
