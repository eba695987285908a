"""The record of a node that a key admitted: a new one, or the machine's own renewed in place. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Network

from warren_control import names, reports
from warren_control.allocation import Pools, allocate_in
from warren_control.hosts import usable_version
from warren_control.model import AuthKey, Node, Snapshot
from warren_control.registration import Admitted, Grant
from warren_wire.control.messages import Hostinfo, RegisterRequest
from warren_wire.keys import MachinePublic


def admitted_node(
    outcome: Admitted,
    request: RegisterRequest,
    machine: MachinePublic,
    snapshot: Snapshot,
    pools: Pools,
    now: datetime,
    lifetime: timedelta | None = None,
    policy_pools: Sequence[IPv4Network] = (),
) -> Node:
    """What to store. A renewal keeps id, addresses, name, approvals, endpoints and home relay.

    The IPv4 address comes from the first of `policy_pools` with a free one, if the policy names any.
    """
    hostinfo = request.hostinfo or Hostinfo()
    grant, key = outcome.grant, outcome.grant.key
    base = outcome.existing or _new_node(hostinfo, machine, request, snapshot, pools, now, policy_pools)
    bound = dataclasses.replace(
        base,
        node_key=request.node_key,
        owner=grant.owner,
        # Cleared before the key is used up: a client told that it expired would come back with a used key.
        expiry=_expiry(base, grant, request, now, lifetime),
        tags=grant.tags,
        auth_key_id=key.id if key is not None else None,
        ephemeral=grant.ephemeral or request.ephemeral,
        capability_version=usable_version(request.version),
        # Counts from here for an ephemeral node that never polls.
        last_seen=now if not base.online else base.last_seen,
    )
    taken = snapshot.names(without=bound.id)
    return reports.with_hostinfo(bound, hostinfo, key, taken)


def predecessor(request: RegisterRequest, snapshot: Snapshot, now: datetime) -> Node | None:
    """The dead machine with the newcomer's name, under the name that it keeps; `None` if nobody yields.

    A machine that was installed anew comes with other keys, so its name alone tells that it is the same.
    Whoever is logged out, or ephemeral and away, yields; a name that a person chose stays.
    """
    wanted = names.label_from(request.hostinfo.hostname) if request.hostinfo is not None else ""
    holder = snapshot.nodes.get(snapshot.by_name.get(wanted, 0))
    if holder is None or holder.name_pinned:
        return None
    if not holder.expired(now) and (holder.online or not holder.ephemeral):
        return None
    return dataclasses.replace(holder, name=names.unique_label(wanted, snapshot.names()))


def _expiry(
    node: Node, grant: Grant, request: RegisterRequest, now: datetime, lifetime: timedelta | None
) -> datetime | None:
    """When it must log in again: by the mesh's rule or sooner as it asks itself; machines with tags never."""
    if grant.tags or node.expiry_disabled:
        return None
    by_rule = now + lifetime if lifetime is not None else None
    asked = request.expiry if request.expiry is not None and request.expiry > now else None
    return min((expiry for expiry in (by_rule, asked) if expiry is not None), default=None)


def consumed(key: AuthKey, now: datetime) -> AuthKey | None:
    """The key after it admitted a node, or `None` if nothing about it changes."""
    return None if key.reusable and key.used_at is not None else dataclasses.replace(key, used_at=now)


def rebound(node: Node, key: AuthKey) -> Node:
    """A node that came again with another reusable key: its routes follow that key from now on."""
    approved = reports.approve(node.approved_routes, node.advertised_routes, key)
    return dataclasses.replace(node, auth_key_id=key.id, approved_routes=approved)


def retagged(node: Node, tags: tuple[str, ...]) -> Node:
    """A node that asked for other tags; machines with tags need not log in again."""
    return dataclasses.replace(node, tags=tags, expiry=None)


def _new_node(
    hostinfo: Hostinfo,
    machine: MachinePublic,
    request: RegisterRequest,
    snapshot: Snapshot,
    pools: Pools,
    now: datetime,
    policy_pools: Sequence[IPv4Network],
) -> Node:
    v4, v6 = allocate_in(pools, policy_pools, snapshot.used_addresses(now))
    return Node(
        id=snapshot.next_node_id,
        machine_key=machine,
        node_key=request.node_key,
        name=names.unique_label(names.label_from(hostinfo.hostname), snapshot.names()),
        v4=v4,
        v6=v6,
        created=now,
    )
