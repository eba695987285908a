"""One look at the members of a managed Mesh: machines at its control server, Node objects here, both ways."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final

from warren_operator import members, naming
from warren_operator.conditions import rfc3339
from warren_operator.control_api import ControlApi
from warren_operator.errors import ConflictError, ControlApiError, InvalidResourceError, NotFoundError
from warren_operator.keys import MeshKey
from warren_operator.kinds import Kind, Manifest
from warren_operator.machines import Machine
from warren_operator.reconcile.context import Context
from warren_operator.reconcile.deletion import release_node
from warren_operator.reconcile.regions import sync_regions
from warren_operator.resources.mesh import Managed, Mesh, parse_mesh
from warren_operator.resources.node import NodeResource, parse_node

logger = logging.getLogger(__name__)

# A Node that is being deleted waits this long for a control server that does not answer.
MACHINE_DELETION_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0


async def look_at_members(context: Context, namespace: str, name: str) -> float | None:
    manifest = await context.cluster.get(Kind.MESH, namespace, name)
    nodes = await _nodes(context, namespace, name)
    if manifest is None or "deletionTimestamp" in manifest["metadata"]:
        context.watcher.leave(namespace, name)
        await _release_deleted(context, nodes, at_once=True)
        return None
    try:
        mesh = parse_mesh(manifest)
    except InvalidResourceError:
        return None
    if not isinstance(mesh.control, Managed):
        await _release_deleted(context, nodes, at_once=True)
        return None
    context.watcher.follow(mesh, mesh.control)
    try:
        api = await context.controls.of(mesh, mesh.control)
        machines = await api.machines()
        await _sync(context, mesh, api, machines, nodes)
        await sync_regions(context, mesh, api)
    except ControlApiError as error:
        logger.debug("control server not asked", extra={"mesh": str(mesh.name), "reason": str(error)})
        await _release_deleted(context, nodes, at_once=False)
        return RETRY_SECONDS
    if len(machines) != (manifest.get("status") or {}).get("nodes"):
        context.poke(MeshKey(namespace, name), 1.0)
    return context.config.resync_seconds


async def _nodes(context: Context, namespace: str, mesh: str) -> list[NodeResource]:
    """Node objects of the mesh; one that cannot be read is skipped and the others are not affected."""
    found = []
    for manifest in await context.cluster.list(Kind.NODE, namespace):
        try:
            node = parse_node(manifest)
        except InvalidResourceError as error:
            name = manifest["metadata"]["name"]
            logger.warning("node object not read", extra={"node": name, "reason": str(error)})
            continue
        if node.mesh == mesh:
            found.append(node)
    return found


async def _sync(
    context: Context,
    mesh: Mesh,
    api: ControlApi,
    machines: tuple[Machine, ...],
    nodes: list[NodeResource],
) -> None:
    binding = members.bind(machines, nodes)
    now = context.clock()
    for node, machine in binding.pairs:
        if node.deleting:
            await api.delete_machine(machine.id)
            await release_node(context, node.manifest)
            logger.info("machine removed", extra={"node": node.name, "mesh": mesh.name})
        else:
            await _update(context, api, node, machine, now)
    for node in binding.lost:
        await _lose(context, node, now)
    if binding.new:
        await _create(context, mesh, binding.new, now)


async def _update(
    context: Context, api: ControlApi, node: NodeResource, machine: Machine, now: datetime
) -> None:
    refusal = None
    patch = members.patch_for(node, machine)
    if patch:
        try:
            machine = await api.change_machine(machine.id, patch)
        except ControlApiError as error:
            if not 400 <= error.status < 500:
                raise
            refusal = str(error)
    await _hold(context, node)
    await _write_status(context, node.manifest, members.status_of(node.manifest, machine, refusal, now))


async def _hold(context: Context, node: NodeResource) -> None:
    """From now on a deletion must reach the control server before the object may go."""
    metadata = node.manifest["metadata"]
    found = metadata.get("finalizers") or []
    if naming.MACHINE_FINALIZER in found:
        return
    patch = {"finalizers": [*found, naming.MACHINE_FINALIZER], "resourceVersion": metadata["resourceVersion"]}
    await context.cluster.merge(Kind.NODE, node.namespace, node.name, {"metadata": patch})


async def _lose(context: Context, node: NodeResource, now: datetime) -> None:
    if node.deleting:
        await release_node(context, node.manifest)
    elif node.made_by_operator:
        await release_node(context, node.manifest)
        uid = node.manifest["metadata"]["uid"]
        await context.cluster.delete(Kind.NODE, node.namespace, node.name, uid)
        logger.info("node object removed", extra={"node": node.name, "mesh": node.mesh})
    else:
        await release_node(context, node.manifest)
        await _write_status(context, node.manifest, members.lost_status(node.manifest, now))


async def _create(context: Context, mesh: Mesh, machines: tuple[Machine, ...], now: datetime) -> None:
    taken = {node["metadata"]["name"] for node in await context.cluster.list(Kind.NODE, mesh.namespace)}
    for machine in machines:
        manifest = members.new_node(mesh, machine, taken)
        try:
            created = await context.cluster.create(Kind.NODE, manifest)
        except ConflictError:
            # Made by someone meanwhile; the next look sees it.
            continue
        taken.add(created["metadata"]["name"])
        await _write_status(context, created, members.status_of(created, machine, None, now))
        logger.info("node object made", extra={"node": created["metadata"]["name"], "mesh": mesh.name})


async def _write_status(context: Context, node: Manifest, wanted: Manifest) -> None:
    patch = members.status_patch(node, wanted)
    if patch is None:
        return
    metadata = node["metadata"]
    try:
        await context.cluster.merge(
            Kind.NODE, metadata["namespace"], metadata["name"], {"status": patch}, subresource="status"
        )
    except NotFoundError:
        return


async def _release_deleted(context: Context, nodes: list[NodeResource], *, at_once: bool) -> None:
    """Deletion always finishes: without a control server there is nothing to wait for, or not for long."""
    for node in nodes:
        if not node.deleting:
            continue
        since = datetime.fromisoformat(node.manifest["metadata"]["deletionTimestamp"])
        waited = (context.clock() - since).total_seconds()
        if at_once or waited > MACHINE_DELETION_SECONDS:
            await release_node(context, node.manifest)
            logger.warning(
                "node object released without its control server",
                extra={"node": node.name, "since": rfc3339(since)},
            )
