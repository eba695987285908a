"""The end of a Mesh, in steps that each follow from what is observed, so that any of them can be the first.

Agents stop; a clean-up runs once on each host; what was made is deleted; the finalizer goes. Every wait is
bounded by the time since the deletion was asked for, so that a broken node cannot keep a Mesh alive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from warren_operator import naming
from warren_operator.desired.agents import AGENT, cleanup_daemon_set
from warren_operator.errors import InvalidResourceError, NotFoundError, RefusedError
from warren_operator.kinds import Kind, Manifest
from warren_operator.plan import stamp
from warren_operator.reconcile.context import Context
from warren_operator.resources.mesh import Mesh, parse_mesh

logger = logging.getLogger(__name__)

CLEANING: Final = "running"
CLEANED: Final = "done"
STEP_SECONDS: Final = 0.5
# After the clean-up's own limit, for pods and volumes to go.
GOING_SECONDS: Final = 30.0
MADE: Final = (
    Kind.DAEMON_SET,
    Kind.DEPLOYMENT,
    Kind.NETWORK_POLICY,
    Kind.SERVICE,
    Kind.CONFIG_MAP,
    Kind.SECRET,
    Kind.SERVICE_ACCOUNT,
    Kind.PERSISTENT_VOLUME_CLAIM,
)


async def delete_mesh(context: Context, manifest: Manifest) -> float | None:
    metadata = manifest["metadata"]
    if naming.FINALIZER not in (metadata.get("finalizers") or []):
        return None
    namespace, name = metadata["namespace"], metadata["name"]
    elapsed = _elapsed(metadata["deletionTimestamp"], context.clock())
    if _stage(manifest) != CLEANED:
        if elapsed < context.config.cleanup_seconds and not await _cleaned(context, manifest):
            return STEP_SECONDS
        await _enter(context, manifest, CLEANED)
    await _release_nodes(context, namespace, name)
    left = await _delete_made(context, namespace, name)
    if left and elapsed < context.config.cleanup_seconds + GOING_SECONDS:
        return STEP_SECONDS
    await context.controls.forget(namespace, name)
    await _remove_finalizer(context, Kind.MESH, manifest, naming.FINALIZER)
    logger.info("mesh removed", extra={"mesh": f"{namespace}/{name}"})
    return None


async def _cleaned(context: Context, manifest: Manifest) -> bool:
    """Whether every host that ran an agent is as it was found."""
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    agents = await context.cluster.get(Kind.DAEMON_SET, namespace, naming.agent_name(name))
    cleanup = await context.cluster.get(Kind.DAEMON_SET, namespace, naming.cleanup_name(name))
    mesh = _parsed(manifest)
    if mesh is None or (agents is None and cleanup is None and not await _had_agents(context, manifest)):
        return True
    if cleanup is None:
        return not await _start_cleanup(context, mesh, agents, _stage(manifest))
    state = cleanup.get("status") or {}
    if state.get("observedGeneration", 0) < cleanup["metadata"].get("generation", 0):
        return False
    return int(state.get("numberReady", 0)) >= int(state.get("desiredNumberScheduled", 0))


async def _start_cleanup(context: Context, mesh: Mesh, agents: Manifest | None, stage: str) -> bool:
    """Stops the agents first; whether there is something to wait for."""
    if agents is not None:
        if stage != CLEANING:
            # Or a restart between this step and the next would find no trace of agents.
            await _enter(context, mesh.manifest, CLEANING)
        name, uid = naming.agent_name(mesh.name), agents["metadata"].get("uid")
        await context.cluster.delete(Kind.DAEMON_SET, mesh.namespace, name, uid)
        return True
    if await _pods(context, mesh.namespace, mesh.name, AGENT):
        return True
    try:
        await context.cluster.apply(stamp(cleanup_daemon_set(mesh, context.config.images)))
    except RefusedError as error:
        # In a namespace that is going away nothing new can be made.
        logger.warning("hosts not cleaned", extra={"mesh": mesh.name, "reason": str(error)})
        return False
    return True


async def _had_agents(context: Context, manifest: Manifest) -> bool:
    """Agents ran if an earlier step or the status says so, or pods of theirs are still there."""
    if _stage(manifest) == CLEANING:
        return True
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    counted = (manifest.get("status") or {}).get("agents") or {}
    return bool(counted.get("desired")) or bool(await _pods(context, namespace, name, AGENT))


def _stage(manifest: Manifest) -> str:
    annotations = manifest["metadata"].get("annotations") or {}
    return str(annotations.get(naming.CLEANUP_ANNOTATION, ""))


async def _enter(context: Context, manifest: Manifest, stage: str) -> None:
    metadata = manifest["metadata"]
    patch = {"metadata": {"annotations": {naming.CLEANUP_ANNOTATION: stage}}}
    await context.cluster.merge(Kind.MESH, metadata["namespace"], metadata["name"], patch)


async def _release_nodes(context: Context, namespace: str, name: str) -> None:
    """Node objects we made go; those that people wrote stay, held by nothing of ours."""
    for node in await context.cluster.list(Kind.NODE, namespace):
        if ((node.get("spec") or {}).get("meshRef") or {}).get("name") != name:
            continue
        metadata = node["metadata"]
        if (metadata.get("labels") or {}).get(naming.MANAGED_BY) == naming.FIELD_MANAGER:
            await context.cluster.delete(Kind.NODE, namespace, metadata["name"], metadata["uid"])
        await release_node(context, node)


async def release_node(context: Context, node: Manifest) -> None:
    await _remove_finalizer(context, Kind.NODE, node, naming.MACHINE_FINALIZER)


async def _delete_made(context: Context, namespace: str, name: str) -> bool:
    """Whether something is still there."""
    labels = {naming.MESH_LABEL: name, naming.MANAGED_BY: naming.FIELD_MANAGER}
    lists = await asyncio.gather(*(context.cluster.list(kind, namespace, labels) for kind in MADE))
    left = False
    for kind, found in zip(MADE, lists, strict=True):
        left = left or bool(found)
        await _delete_all(context, kind, found)
    pods = await _pods(context, namespace, name)
    return left or bool(pods)


async def _delete_all(context: Context, kind: Kind, found: Iterable[Manifest]) -> None:
    for item in found:
        metadata = item["metadata"]
        if "deletionTimestamp" not in metadata:
            await context.cluster.delete(kind, metadata["namespace"], metadata["name"], metadata["uid"])


async def _pods(context: Context, namespace: str, mesh: str, component: str | None = None) -> list[Manifest]:
    labels = {naming.MESH_LABEL: mesh}
    if component is not None:
        labels[naming.COMPONENT] = component
    return await context.cluster.list(Kind.POD, namespace, labels)


async def _remove_finalizer(context: Context, kind: Kind, manifest: Manifest, finalizer: str) -> None:
    """Of the object as it is now: others may have taken away theirs meanwhile."""
    metadata = manifest["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    found = await context.cluster.get(kind, namespace, name)
    if found is None or found["metadata"]["uid"] != metadata["uid"]:
        return
    kept = [item for item in found["metadata"].get("finalizers") or [] if item != finalizer]
    if len(kept) == len(found["metadata"].get("finalizers") or []):
        return
    version = found["metadata"]["resourceVersion"]
    try:
        await context.cluster.merge(
            kind, namespace, name, {"metadata": {"finalizers": kept, "resourceVersion": version}}
        )
    except NotFoundError:
        return


def _parsed(manifest: Manifest) -> Mesh | None:
    try:
        return parse_mesh(manifest)
    except InvalidResourceError:
        return None


def _elapsed(since: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(since)).total_seconds()
