"""A Mesh's policy and the control server's: read both, take the one step between them, say how it went."""

from __future__ import annotations

from dataclasses import dataclass

from warren_operator import policies
from warren_operator.conditions import Condition
from warren_operator.control_api import ControlApi
from warren_operator.errors import ControlApiError
from warren_operator.kinds import Kind, Manifest
from warren_operator.machines import PolicyInForce
from warren_operator.policies import Put, Remove
from warren_operator.reconcile.context import Context
from warren_operator.resources.mesh import ConfigMapRef, Managed, Mesh


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """For the status: nothing in `fields` leaves what was written."""

    condition: Condition | None = None
    fields: Manifest | None = None


async def look_at_policy(context: Context, mesh: Mesh, *, answering: bool) -> PolicyReport:
    """`answering`: whether the control server has just answered another question."""
    _watch(context, mesh)
    if not isinstance(mesh.control, Managed):
        return PolicyReport(policies.elsewhere() if mesh.policy is not None else None)
    if not answering:
        why = "the control server does not answer yet"
        return PolicyReport(policies.waiting(why) if mesh.policy is not None else None)
    text, missing = await _wanted(context, mesh)
    if missing is not None:
        return PolicyReport(policies.not_found(missing))
    try:
        api = await context.controls.of(mesh, mesh.control)
        return await _settle(api, mesh, text)
    except ControlApiError as error:
        return PolicyReport(policies.refused(error) if mesh.policy is not None else None)


async def _settle(api: ControlApi, mesh: Mesh, text: str | None) -> PolicyReport:
    in_force = await api.policy()
    status = mesh.manifest.get("status") or {}
    match policies.step(text, in_force, status):
        case Put(wanted, version, tested):
            in_force = await api.put_policy(wanted, version, tested=tested)
        case Remove(version):
            await api.delete_policy(version)
            in_force = PolicyInForce()
    if text is None:
        return PolicyReport(None, {"policy": policies.other_fields(in_force, status)})
    source = "configMap" if isinstance(mesh.policy, ConfigMapRef) else "inline"
    fields = policies.own_fields(in_force, source, mesh.generation)
    return PolicyReport(policies.accepted(in_force), {"policy": fields})


async def _wanted(context: Context, mesh: Mesh) -> tuple[str | None, str | None]:
    """The text, and what is missing where it cannot be had."""
    if not isinstance(mesh.policy, ConfigMapRef):
        return mesh.policy, None
    reference = mesh.policy
    found = await context.cluster.get(Kind.CONFIG_MAP, mesh.namespace, reference.name)
    if found is None:
        return None, f"there is no ConfigMap {reference.name}"
    text = (found.get("data") or {}).get(reference.key)
    if text is None:
        return None, f"the ConfigMap {reference.name} has no {reference.key}"
    return text, None


def _watch(context: Context, mesh: Mesh) -> None:
    named = mesh.policy.name if isinstance(mesh.policy, ConfigMapRef) else None
    context.config_maps.follow(mesh.namespace, mesh.name, named)
