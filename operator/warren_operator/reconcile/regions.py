"""The relay map of a managed Mesh: regions of DerpRelay objects in, those of gone ones out.

The Mesh's status keeps which regions came from here, written before they are added: what a person added
through the API is not touched, and what was added before a restart is not forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from http import HTTPStatus

from warren_operator import certificates, naming
from warren_operator.control_api import ControlApi
from warren_operator.desired.regions import HostAddress, hosts_of, region
from warren_operator.desired.relay import RELAY, tls_secret_name
from warren_operator.desired.secrets import secret_data
from warren_operator.errors import ControlApiError, InvalidResourceError
from warren_operator.keys import RelayKey
from warren_operator.kinds import Kind, Manifest
from warren_operator.reconcile.context import Context
from warren_operator.resources.derprelay import DerpRelay, parse_relay
from warren_operator.resources.mesh import Mesh

logger = logging.getLogger(__name__)


async def relays_of(context: Context, mesh: Mesh) -> list[DerpRelay]:
    """The DerpRelay objects that the mesh selects and that want to be used, oldest first."""
    found = []
    for manifest in await context.cluster.list(Kind.DERP_RELAY, mesh.namespace):
        try:
            relay = parse_relay(manifest)
        except InvalidResourceError:
            continue
        if not relay.deleting and relay.replicas > 0 and mesh.relay_selector.matches(relay.labels):
            found.append(relay)
    return sorted(
        found, key=lambda relay: (relay.manifest["metadata"].get("creationTimestamp", ""), relay.name)
    )


async def sync_regions(context: Context, mesh: Mesh, api: ControlApi) -> None:
    recorded = set((mesh.manifest.get("status") or {}).get("regions") or [])
    wanted = await _wanted(context, await relays_of(context, mesh))
    if not wanted and not recorded:
        return
    await _record(context, mesh, recorded, recorded | set(wanted))
    known = {shown["RegionID"]: shown for shown in await api.regions()}
    kept = set()
    for number, (relay, entry) in wanted.items():
        if number in known and (_says(known[number], entry) or _is_partial(relay, entry)):
            refusal = None
        elif not entry["Nodes"]:
            continue
        else:
            refusal = await _put(api, entry)
        _note(context, relay, refusal)
        if refusal is None:
            kept.add(number)
    # The number of a region that the server's own configuration has was recorded but never ours.
    for number in recorded - set(wanted):
        try:
            await api.delete_region(number)
        except ControlApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            continue
        logger.info("relay region removed", extra={"relay": number, "mesh": mesh.name})
    await _record(context, mesh, recorded | set(wanted), kept)


async def hosts_of_relay(context: Context, relay: DerpRelay) -> list[HostAddress]:
    """Where its replicas are, if each is reached at its own node."""
    if not relay.has_hosts:
        return []
    pods = await context.cluster.list(Kind.POD, relay.namespace, naming.selector(RELAY, relay=relay.name))
    names = {name for pod in pods if (name := pod["spec"].get("nodeName"))}
    found = {name: await context.cluster.get(Kind.MACHINE, None, name) for name in sorted(names)}
    return hosts_of(pods, {name: machine for name, machine in found.items() if machine is not None})


def _is_partial(relay: DerpRelay, entry: Manifest) -> bool:
    """While a pod is replaced, what is announced stays: each change makes every client connect anew."""
    return relay.has_hosts and len(entry["Nodes"]) < relay.replicas


async def _put(api: ControlApi, entry: Manifest) -> str | None:
    """Why the control server refused the region."""
    try:
        await api.put_region(entry)
    except ControlApiError as error:
        if not 400 <= error.status < 500:
            raise
        return str(error)
    logger.info("relay region announced", extra={"relay": entry["RegionID"]})
    return None


async def _wanted(context: Context, relays: Iterable[DerpRelay]) -> dict[int, tuple[DerpRelay, Manifest]]:
    """The first of those that want the same number gets it."""
    found: dict[int, tuple[DerpRelay, Manifest]] = {}
    for relay in relays:
        if relay.region_id in found:
            first = found[relay.region_id][0].name
            _note(context, relay, f"region {relay.region_id} is already that of DerpRelay {first}")
            continue
        cert_name = ""
        if relay.tls_secret is None:
            secret = await context.cluster.get(Kind.SECRET, relay.namespace, tls_secret_name(relay))
            certificate = secret_data(secret, "tls.crt")
            if not certificate:
                continue
            cert_name = certificates.pin(certificate)
        hosts = await hosts_of_relay(context, relay)
        found[relay.region_id] = (relay, region(relay, cert_name, hosts))
    return found


async def _record(context: Context, mesh: Mesh, old: set[int], new: set[int]) -> None:
    if old != new:
        patch = {"status": {"regions": sorted(new)}}
        await context.cluster.merge(Kind.MESH, mesh.namespace, mesh.name, patch, subresource="status")


def _note(context: Context, relay: DerpRelay, refusal: str | None) -> None:
    key = (relay.namespace, relay.name)
    if refusal is None:
        changed = context.refused_regions.pop(key, None) is not None
    else:
        changed = context.refused_regions.get(key) != refusal
        context.refused_regions[key] = refusal
    if changed:
        context.poke(RelayKey(*key), 0.0)


def _says(shown: Manifest, entry: Manifest) -> bool:
    """Whether the server's entry tells all that ours does."""
    if len(shown.get("Nodes") or []) != len(entry["Nodes"]):
        return False
    same_nodes = all(
        found.get(key) == value
        for found, node in zip(shown["Nodes"], entry["Nodes"], strict=True)
        for key, value in node.items()
    )
    return same_nodes and all(shown.get(key) == value for key, value in entry.items() if key != "Nodes")
