"""Which Node object stands for which machine, and what each should be told. Pure.

A Node is bound to a machine by number and machine key, both kept in its status: a control server that lost
its database counts from one again. A Node without a machine claims the unbound machine that has its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from warren_operator.conditions import Condition, merged, rfc3339
from warren_operator.desired.objects import head
from warren_operator.kinds import Kind, Manifest
from warren_operator.machines import Machine
from warren_operator.naming import MACHINE_FINALIZER, bounded, labels
from warren_operator.resources.mesh import Mesh
from warren_operator.resources.node import NodeResource

MEMBER: Final = "member"
# A machine that is online is seen all the time; writing each would be a storm.
LAST_SEEN_STEP: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Binding:
    pairs: tuple[tuple[NodeResource, Machine], ...]
    new: tuple[Machine, ...]
    """Machines without a Node."""
    lost: tuple[NodeResource, ...]
    """Nodes without a machine."""


def bind(machines: Iterable[Machine], nodes: Iterable[NodeResource]) -> Binding:
    free = {(machine.id, machine.machine_key): machine for machine in machines}
    pairs: list[tuple[NodeResource, Machine]] = []
    unbound = []
    for node in nodes:
        keys = (node.manifest.get("status") or {}).get("keys") or {}
        machine = free.pop((node.machine_id or 0, keys.get("machine", "")), None)
        if machine is None:
            unbound.append(node)
        else:
            pairs.append((node, machine))
    by_name = {machine.name: machine for machine in free.values()}
    lost = []
    # One that a person wrote goes before one that stood for a machine which is gone.
    for node in sorted(unbound, key=lambda node: (node.made_by_operator, node.name)):
        claimed = None if node.deleting else by_name.pop(node.wanted_name, None)
        if claimed is None:
            lost.append(node)
        else:
            pairs.append((node, claimed))
    return Binding(tuple(pairs), tuple(sorted(by_name.values(), key=lambda machine: machine.id)), tuple(lost))


def patch_for(node: NodeResource, machine: Machine) -> Manifest:
    """What to change at the control server so that the machine is as the Node's spec says."""
    spec = node.spec
    patch: Manifest = {}
    if spec.name is not None and spec.name != machine.name:
        patch["name"] = spec.name
    if spec.tags is not None and set(spec.tags) != set(machine.tags):
        patch["tags"] = list(spec.tags)
    if spec.approved_routes is not None and set(spec.approved_routes) != set(machine.approved_routes):
        patch["approved_routes"] = list(spec.approved_routes)
    if spec.disabled is not None and spec.disabled != machine.disabled:
        patch["disabled"] = spec.disabled
    if spec.addresses is not None and not set(spec.addresses) <= set(machine.addresses):
        patch["addresses"] = list(spec.addresses)
    return patch


def new_node(mesh: Mesh, machine: Machine, taken: set[str]) -> Manifest:
    """A Node object for a machine that has none, under a name that none has."""
    candidates = (machine.name, f"{mesh.name}-{machine.name}")
    name = next((name for name in map(bounded, candidates) if name not in taken), None)
    manifest = head(
        Kind.NODE,
        name or bounded(f"{mesh.name}-{machine.name}-{machine.id}"),
        mesh.manifest,
        labels(MEMBER, mesh=mesh.name),
    )
    manifest["metadata"]["finalizers"] = [MACHINE_FINALIZER]
    return {**manifest, "spec": {"meshRef": {"name": mesh.name}}}


def status_of(node: Manifest, machine: Machine, refusal: str | None, now: datetime) -> Manifest:
    """The whole status of a Node that is bound to a machine."""
    keys = {"machine": machine.machine_key, "node": machine.node_key, "disco": machine.disco_key}
    status: dict[str, Any] = {
        "id": machine.id,
        "name": machine.name,
        "fqdn": machine.fqdn,
        "hostname": machine.hostname,
        "user": machine.user,
        "addresses": list(machine.addresses),
        "keys": {name: key for name, key in keys.items() if key},
        "os": machine.os,
        "clientVersion": machine.client_version,
        "endpoints": list(machine.endpoints),
        "homeRelay": None,
        "online": machine.online,
        "lastSeen": _seconds(machine.last_seen),
        "registered": _seconds(machine.created),
        "expiry": _seconds(machine.expiry),
        "ephemeral": machine.ephemeral,
        "disabled": machine.disabled,
        "tags": list(machine.tags),
        "advertisedRoutes": list(machine.advertised_routes),
        "approvedRoutes": list(machine.approved_routes),
    }
    if machine.home_relay is not None:
        status["homeRelay"] = {"regionID": machine.home_relay.region_id, "code": machine.home_relay.code}
    if refusal is not None:
        condition = Condition.unmet("Ready", "Refused", refusal)
    else:
        condition = Condition.met("Ready", "Joined")
    return _with_conditions(node, status, condition, now)


def lost_status(node: Manifest, now: datetime) -> Manifest:
    """For a Node that a person wrote and no machine stands behind, yet or any more."""
    was = (node.get("status") or {}).get("id") is not None
    text = "the machine is not registered any more" if was else "no machine of this name has joined yet"
    status = {"online": False} if was else {}
    return _with_conditions(node, status, Condition.unmet("Ready", "NotJoined", text), now)


def status_patch(node: Manifest, wanted: Manifest) -> Manifest | None:
    """What to merge into the status, nothing if it tells the same."""
    old = node.get("status") or {}
    changed = {name: value for name, value in wanted.items() if old.get(name) != value}
    if (
        set(changed) == {"lastSeen"}
        and wanted.get("online")
        and _is_near(old.get("lastSeen"), changed["lastSeen"])
    ):
        return None
    return changed or None


def taken_names(nodes: Sequence[NodeResource]) -> set[str]:
    return {node.name for node in nodes}


def _with_conditions(node: Manifest, status: Manifest, condition: Condition, now: datetime) -> Manifest:
    generation = node["metadata"].get("generation", 0)
    old = (node.get("status") or {}).get("conditions") or []
    return {
        **status,
        "observedGeneration": generation,
        "conditions": merged(old, [condition], generation, now),
    }


def _seconds(text: str | None) -> str | None:
    moment = _moment(text)
    return rfc3339(moment) if moment is not None else None


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def _is_near(old: str | None, new: str | None) -> bool:
    first, second = _moment(old), _moment(new)
    return first is not None and second is not None and abs(second - first) < LAST_SEEN_STEP
