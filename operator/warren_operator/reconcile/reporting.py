"""Writes what a resource is told about itself: status, and an event for each thing that changed."""

from __future__ import annotations

from collections.abc import Sequence

from warren_operator.conditions import Condition, merged, notes
from warren_operator.events import tell
from warren_operator.kinds import Kind, Manifest
from warren_operator.reconcile.context import Context


async def report(
    context: Context, kind: Kind, manifest: Manifest, conditions: Sequence[Condition], fields: Manifest
) -> None:
    """Nothing is written if the status says the same already."""
    metadata = manifest["metadata"]
    old = manifest.get("status") or {}
    known = old.get("conditions") or []
    generation = metadata.get("generation", 0)
    now = context.clock()
    wanted = {
        **fields,
        "observedGeneration": generation,
        "conditions": merged(known, conditions, generation, now),
    }
    patch = {name: value for name, value in wanted.items() if old.get(name) != value}
    if not patch:
        return
    await context.cluster.merge(
        kind, metadata["namespace"], metadata["name"], {"status": patch}, subresource="status"
    )
    await tell(context.cluster, manifest, notes(known, conditions), now)
