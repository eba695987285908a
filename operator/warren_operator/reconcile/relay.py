"""One look at a DerpRelay. Its region in the relay map is written by the look at the members of each Mesh."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from warren_operator import naming, status
from warren_operator.apply import apply, write_secrets
from warren_operator.conditions import Condition
from warren_operator.desired.agents import ca_ref
from warren_operator.desired.relay import (
    RELAY,
    Admission,
    admission,
    relay_objects,
    tls_secret_name,
)
from warren_operator.desired.secrets import relay_secrets, secret_data
from warren_operator.desired.surroundings import surrounded
from warren_operator.errors import InvalidResourceError
from warren_operator.keys import MembersKey
from warren_operator.kinds import Kind, Manifest
from warren_operator.plan import Key, plan
from warren_operator.reconcile.context import Context
from warren_operator.reconcile.regions import hosts_of_relay
from warren_operator.reconcile.reporting import report
from warren_operator.relay_metrics import connected_clients
from warren_operator.resources.derprelay import DerpRelay, parse_relay
from warren_operator.resources.mesh import Managed, Mesh, parse_mesh

logger = logging.getLogger(__name__)

OWNED: Final = (
    Kind.CONFIG_MAP,
    Kind.SERVICE_ACCOUNT,
    Kind.SERVICE,
    Kind.NETWORK_POLICY,
    Kind.DEPLOYMENT,
)
UNREADY_SECONDS: Final = 2.0
CLIENTS_SECONDS: Final = 30.0


async def look_at_relay(context: Context, namespace: str, name: str) -> float | None:
    manifest = await context.cluster.get(Kind.DERP_RELAY, namespace, name)
    meshes = await _meshes(context, namespace)
    if manifest is None or "deletionTimestamp" in manifest["metadata"]:
        context.refused_regions.pop((namespace, name), None)
        _poke_members(context, meshes)
        return None
    try:
        relay = parse_relay(manifest)
    except InvalidResourceError as error:
        await report(
            context, Kind.DERP_RELAY, manifest, [Condition.unmet("Ready", "Invalid", str(error))], {}
        )
        return context.config.resync_seconds
    selecting = [mesh for mesh in meshes if mesh.relay_selector.matches(relay.labels)]
    try:
        return await _reconcile(context, relay, selecting)
    except InvalidResourceError as error:
        await report(
            context, Kind.DERP_RELAY, manifest, [Condition.unmet("Ready", "Invalid", str(error))], {}
        )
        return context.config.resync_seconds


async def _reconcile(context: Context, relay: DerpRelay, selecting: list[Mesh]) -> float | None:
    if not await _ensure_secrets(context, relay):
        return 0.0
    problems: list[str] = []
    members = await _admission(context, selecting)
    if relay.members_only and members is None:
        problems.append("admission is for members only, but no Mesh of this namespace selects the relay")
    if relay.tls_secret is not None:
        secret = await context.cluster.get(Kind.SECRET, relay.namespace, relay.tls_secret)
        missing = [key for key in ("tls.crt", "tls.key") if not secret_data(secret, key)]
        if missing:
            problems.append(f"tls: the Secret {relay.tls_secret} has no {' and no '.join(missing)}")
    observed = await _observe(context, relay)
    usable = not relay.members_only or members is not None
    made = relay_objects(relay, members, context.config.images) if usable else []
    desired = surrounded(made, context.config.surroundings)
    actions = plan(desired, observed)
    if actions:
        problems += await apply(context.cluster, actions)
        observed = await _observe(context, relay)
    _poke_members(context, selecting)
    return await _report(context, relay, selecting, observed, problems)


async def _report(
    context: Context,
    relay: DerpRelay,
    selecting: list[Mesh],
    observed: dict[Key, Manifest],
    problems: list[str],
) -> float:
    managed = [mesh for mesh in selecting if isinstance(mesh.control, Managed)]
    refusal = context.refused_regions.get((relay.namespace, relay.name))
    # Under a refused number the relay map has another relay, if any.
    announced = [mesh.name for mesh in managed if refusal is None and relay.region_id in _regions(mesh)]
    deployment = observed.get((Kind.DEPLOYMENT, naming.relay_name(relay.name)))
    conditions = status.relay_conditions(
        deployment, relay.replicas, announced, [mesh.name for mesh in managed], refusal, problems
    )
    fields: Manifest = {
        "clients": await _clients(context, relay),
        "replicas": ((deployment or {}).get("status") or {}).get("replicas", 0),
        "selector": naming.query(naming.selector(RELAY, relay=relay.name)),
        "addresses": await _addresses(context, relay),
        "meshes": announced,
    }
    await report(context, Kind.DERP_RELAY, relay.manifest, conditions, fields)
    ready = conditions[0].status.value == "True"
    return CLIENTS_SECONDS if ready or relay.replicas == 0 else UNREADY_SECONDS


def _regions(mesh: Mesh) -> list[int]:
    return list((mesh.manifest.get("status") or {}).get("regions") or [])


async def _meshes(context: Context, namespace: str) -> list[Mesh]:
    found = []
    for manifest in await context.cluster.list(Kind.MESH, namespace):
        if "deletionTimestamp" in manifest["metadata"]:
            continue
        try:
            found.append(parse_mesh(manifest))
        except InvalidResourceError:
            continue
    return sorted(found, key=lambda mesh: mesh.name)


def _poke_members(context: Context, meshes: list[Mesh]) -> None:
    for mesh in meshes:
        if isinstance(mesh.control, Managed):
            context.poke(MembersKey(mesh.namespace, mesh.name), 0.0)


async def _admission(context: Context, selecting: list[Mesh]) -> Admission | None:
    """The first mesh by name says who is a member; a managed one goes before an external one."""
    ordered = sorted(selecting, key=lambda mesh: (not isinstance(mesh.control, Managed), mesh.name))
    if not ordered:
        return None
    mesh = ordered[0]
    ca = ca_ref(mesh)
    private_ca = False
    if ca is not None:
        secret = await context.cluster.get(Kind.SECRET, mesh.namespace, ca.name)
        private_ca = bool(secret_data(secret, ca.key))
    return admission(mesh, private_ca=private_ca)


async def _ensure_secrets(context: Context, relay: DerpRelay) -> bool:
    names = [naming.relay_keys_name(relay.name), tls_secret_name(relay)]
    found = await asyncio.gather(*(context.cluster.get(Kind.SECRET, relay.namespace, name) for name in names))
    observed = {name: secret for name, secret in zip(names, found, strict=True) if secret is not None}
    changes = relay_secrets(relay, observed, context.clock())
    return await write_secrets(context.cluster, relay.namespace, changes)


async def _observe(context: Context, relay: DerpRelay) -> dict[Key, Manifest]:
    labels = {naming.RELAY_LABEL: relay.name, naming.MANAGED_BY: naming.FIELD_MANAGER}
    lists = await asyncio.gather(*(context.cluster.list(kind, relay.namespace, labels) for kind in OWNED))
    return {
        (kind, found["metadata"]["name"]): found
        for kind, items in zip(OWNED, lists, strict=True)
        for found in items
    }


async def _addresses(context: Context, relay: DerpRelay) -> list[str]:
    if not relay.has_hosts:
        return [f"{relay.host}:{relay.derp_port}"]
    hosts = await hosts_of_relay(context, relay)
    return [f"{host.shown}:{relay.derp_port}" for host in hosts]


async def _clients(context: Context, relay: DerpRelay) -> int:
    pods = await context.cluster.list(Kind.POD, relay.namespace, naming.selector(RELAY, relay=relay.name))
    addresses = [address for pod in pods if (address := (pod.get("status") or {}).get("podIP"))]
    return sum(await asyncio.gather(*(connected_clients(address) for address in addresses)))
