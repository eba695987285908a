"""One look at a Mesh."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from warren_operator import naming, status
from warren_operator.agentlog import last_refusal
from warren_operator.apply import apply, write_secrets
from warren_operator.conditions import Condition
from warren_operator.desired.agents import AGENT, agent_objects, ca_ref, join_ref
from warren_operator.desired.control import control_objects, tls_secret_name
from warren_operator.desired.secrets import mesh_secrets, secret_data
from warren_operator.desired.surroundings import surrounded
from warren_operator.errors import ControlApiError, InvalidResourceError, NotFoundError
from warren_operator.hosts import taken_by
from warren_operator.keys import MembersKey
from warren_operator.kinds import Kind, Manifest
from warren_operator.plan import Key, plan
from warren_operator.reconcile.context import Context
from warren_operator.reconcile.deletion import delete_mesh
from warren_operator.reconcile.policy import look_at_policy
from warren_operator.reconcile.reporting import report
from warren_operator.resources.mesh import Managed, Mesh, parse_mesh
from warren_operator.status import ControlAnswer, MeshFacts

logger = logging.getLogger(__name__)

OWNED: Final = (
    Kind.CONFIG_MAP,
    Kind.SERVICE_ACCOUNT,
    Kind.SERVICE,
    Kind.PERSISTENT_VOLUME_CLAIM,
    Kind.NETWORK_POLICY,
    Kind.DEPLOYMENT,
    Kind.DAEMON_SET,
)
UNREADY_SECONDS: Final = 2.0
LOGS_AT_ONCE: Final = 5
LOG_LINES: Final = 100


async def look_at_mesh(context: Context, namespace: str, name: str) -> float | None:
    manifest = await context.cluster.get(Kind.MESH, namespace, name)
    if manifest is None:
        await context.controls.forget(namespace, name)
        context.config_maps.follow(namespace, name, None)
        return None
    if "deletionTimestamp" in manifest["metadata"]:
        return await delete_mesh(context, manifest)
    try:
        mesh = parse_mesh(manifest)
    except InvalidResourceError as error:
        await report(context, Kind.MESH, manifest, [Condition.unmet("Ready", "Invalid", str(error))], {})
        return context.config.resync_seconds
    await _with_finalizer(context, manifest)
    try:
        return await _reconcile(context, mesh)
    except InvalidResourceError as error:
        await report(context, Kind.MESH, manifest, [Condition.unmet("Ready", "Invalid", str(error))], {})
        return context.config.resync_seconds


async def observe(context: Context, mesh: Mesh) -> dict[Key, Manifest]:
    """The objects that carry the mesh's label, by kind and name."""
    labels = {naming.MESH_LABEL: mesh.name, naming.MANAGED_BY: naming.FIELD_MANAGER}
    lists = await asyncio.gather(*(context.cluster.list(kind, mesh.namespace, labels) for kind in OWNED))
    return {
        (kind, found["metadata"]["name"]): found
        for kind, items in zip(OWNED, lists, strict=True)
        for found in items
    }


async def _reconcile(context: Context, mesh: Mesh) -> float | None:
    problems: list[str] = []
    managed = mesh.control if isinstance(mesh.control, Managed) else None
    if managed is not None and not await _ensure_secrets(context, mesh, managed):
        return 0.0
    private_ca = await _check_references(context, mesh, problems)
    desired: list[Manifest] = []
    images = context.config.images
    if managed is not None:
        desired += surrounded(control_objects(mesh, managed, images), context.config.surroundings)
    other = await _hosts_taken_by(context, mesh)
    if other is None:
        desired += agent_objects(mesh, images, private_ca=private_ca)
    observed = await observe(context, mesh)
    actions = plan(desired, observed)
    if actions:
        problems += await apply(context.cluster, actions)
        observed = await observe(context, mesh)
    facts = await _facts(context, mesh, observed, problems)
    answering = facts.answer is not None and facts.answer.error is None
    policy = await look_at_policy(context, mesh, answering=answering)
    facts = replace(facts, hosts_taken_by=other, policy=policy.condition)
    conditions = status.mesh_conditions(facts)
    fields = _status_fields(mesh, facts) | (policy.fields or {})
    await report(context, Kind.MESH, mesh.manifest, conditions, fields)
    if managed is not None:
        context.poke(MembersKey(mesh.namespace, mesh.name), 0.0)
    ready = conditions[0].status.value == "True"
    return context.config.resync_seconds if ready else UNREADY_SECONDS


async def _hosts_taken_by(context: Context, mesh: Mesh) -> str | None:
    if not mesh.agents.enabled:
        return None
    spaces: tuple[str | None, ...] = context.config.namespaces or (None,)
    lists = await asyncio.gather(*(context.cluster.list(Kind.MESH, space) for space in spaces))
    return taken_by(mesh.manifest, [found for items in lists for found in items])


async def _with_finalizer(context: Context, manifest: Manifest) -> None:
    metadata = manifest["metadata"]
    found = metadata.get("finalizers") or []
    if naming.FINALIZER in found:
        return
    patch = {
        "metadata": {
            "finalizers": [*found, naming.FINALIZER],
            # Someone else's finalizer, added meanwhile, must not be lost.
            "resourceVersion": metadata["resourceVersion"],
        }
    }
    await context.cluster.merge(Kind.MESH, metadata["namespace"], metadata["name"], patch)


async def _ensure_secrets(context: Context, mesh: Mesh, managed: Managed) -> bool:
    names = [
        make(mesh.name)
        for make in (naming.keys_name, naming.admin_name, naming.join_name, naming.ca_name, naming.tls_name)
    ]
    found = await asyncio.gather(*(context.cluster.get(Kind.SECRET, mesh.namespace, name) for name in names))
    observed = {name: secret for name, secret in zip(names, found, strict=True) if secret is not None}
    changes = mesh_secrets(mesh, managed, observed, context.clock())
    return await write_secrets(context.cluster, mesh.namespace, changes)


async def _check_references(context: Context, mesh: Mesh, problems: list[str]) -> bool:
    """Reports Secrets that a person promised and that are not there; tells whether there is a private CA."""

    async def value(name: str, key: str, what: str) -> bytes:
        secret = await context.cluster.get(Kind.SECRET, mesh.namespace, name)
        data = secret_data(secret, key)
        if secret is None:
            problems.append(f"{what}: there is no Secret {name}")
        elif not data and key != "ca.crt":
            problems.append(f"{what}: the Secret {name} has no {key}")
        return data

    if not isinstance(mesh.control, Managed):
        join = join_ref(mesh)
        await value(join.name, join.key, "joinSecretRef")
        return mesh.control.ca is not None and bool(
            await value(mesh.control.ca.name, mesh.control.ca.key, "caSecretRef")
        )
    if mesh.control.tls_secret is not None:
        for key in ("tls.crt", "tls.key"):
            await value(tls_secret_name(mesh, mesh.control), key, "tls")
    ca = ca_ref(mesh)
    return ca is not None and bool(await value(ca.name, ca.key, "tls"))


async def _facts(
    context: Context, mesh: Mesh, observed: dict[Key, Manifest], problems: list[str]
) -> MeshFacts:
    deployment = observed.get((Kind.DEPLOYMENT, naming.control_name(mesh.name)))
    agents = status.agent_counts(observed.get((Kind.DAEMON_SET, naming.agent_name(mesh.name))))
    answer = None
    running = status.deployment_condition("", deployment).status.value == "True"
    if isinstance(mesh.control, Managed) and running:
        answer = await _ask(context, mesh, mesh.control)
    refusals: tuple[str, ...] = ()
    if agents is not None and agents.ready < agents.wanted:
        refusals = await _refusals(context, mesh)
    return MeshFacts(
        managed=isinstance(mesh.control, Managed),
        agents_wanted=mesh.agents.enabled,
        deployment=deployment,
        answer=answer,
        agents=agents,
        refusals=refusals,
        problems=tuple(dict.fromkeys(problems)),
    )


async def _ask(context: Context, mesh: Mesh, managed: Managed) -> ControlAnswer:
    try:
        answer = await (await context.controls.of(mesh, managed)).status()
    except ControlApiError as error:
        return ControlAnswer(error=str(error))
    return ControlAnswer(answer.nodes, answer.online)


async def _refusals(context: Context, mesh: Mesh) -> tuple[str, ...]:
    """Why agents that are not ready were not let in, from their logs; a few of many tell the story."""
    pods = await context.cluster.list(Kind.POD, mesh.namespace, naming.selector(AGENT, mesh=mesh.name))
    waiting = [pod for pod in pods if not _is_ready(pod) and _has_run(pod)][:LOGS_AT_ONCE]
    found: list[str] = []
    for pod in waiting:
        try:
            log = await context.cluster.log_tail(mesh.namespace, pod["metadata"]["name"], AGENT, LOG_LINES)
        except NotFoundError:
            continue
        reason = last_refusal(log)
        if reason is not None:
            found.append(f"{pod['spec'].get('nodeName', 'a node')}: {reason}")
    return tuple(sorted(found))


def _is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def _has_run(pod: Manifest) -> bool:
    """Only a container that has started has a log."""
    containers = (pod.get("status") or {}).get("containerStatuses") or []
    return any(item.get("name") == AGENT and item.get("containerID") for item in containers)


def _status_fields(mesh: Mesh, facts: MeshFacts) -> Manifest:
    fields: Manifest = {"url": mesh.control.url}
    if facts.answer is not None and facts.answer.error is None:
        fields |= {"nodes": facts.answer.nodes, "online": facts.answer.online}
    fields["agents"] = (
        {"desired": facts.agents.wanted, "ready": facts.agents.ready} if facts.agents is not None else None
    )
    if isinstance(mesh.control, Managed):
        fields["secrets"] = {
            "adminToken": naming.admin_name(mesh.name),
            "joinKey": naming.join_name(mesh.name),
        }
        if mesh.control.secure:
            fields["secrets"]["ca"] = tls_secret_name(mesh, mesh.control)
    return fields
