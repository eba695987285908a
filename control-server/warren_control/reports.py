"""What a node reports in its map requests, applied to its record. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Container

from warren_control import hosts, names, routes
from warren_control.model import AuthKey, Node
from warren_wire.control.messages import Hostinfo, MapRequest, NetInfo


def after_lite_update(node: Node, request: MapRequest, key: AuthKey | None, taken: Container[str]) -> Node:
    """The record after an update: what the request does not carry stays as it was."""
    node = dataclasses.replace(
        node,
        capability_version=hosts.usable_version(request.version) or node.capability_version,
        disco_key=request.disco_key or node.disco_key,
        reported=True,
    )
    # The first updates of a new process have no endpoints at all, which does not mean that it has none.
    if request.endpoints is not None:
        node = dataclasses.replace(node, endpoints=hosts.usable_endpoints(request.endpoints))
    return node if request.hostinfo is None else with_hostinfo(node, request.hostinfo, key, taken)


def after_poll(node: Node, request: MapRequest, key: AuthKey | None, taken: Container[str]) -> Node:
    """The record after a poll, whose report counts only where this process has none.

    A client that reconnects after a restart of the server sends its poll only, and no update until
    something changes; in other polls the report may be older than the last update.
    """
    if not node.reported:
        return dataclasses.replace(
            after_lite_update(node, request, key, taken), reported=bool(request.endpoints)
        )
    filled = node
    if not node.endpoints and request.endpoints:
        filled = dataclasses.replace(filled, endpoints=hosts.usable_endpoints(request.endpoints))
    if node.disco_key is None and request.disco_key is not None:
        filled = dataclasses.replace(filled, disco_key=request.disco_key)
    if node.net_info is None and request.hostinfo is not None:
        filled = dataclasses.replace(
            filled, net_info=hosts.usable_net_info(request.hostinfo.net_info, filled.net_info)
        )
    return filled


def with_hostinfo(node: Node, hostinfo: Hostinfo, key: AuthKey | None, taken: Container[str]) -> Node:
    """The record with another Hostinfo and everything that follows from it: name, routes, home relay."""
    net_info: NetInfo | None = hosts.usable_net_info(hostinfo.net_info, node.net_info)
    usable = hosts.usable_hostinfo(hostinfo)
    if usable == node.hostinfo and net_info == node.net_info:
        return node
    advertised = routes.readable_prefixes(usable.routable_ips)
    return dataclasses.replace(
        node,
        hostinfo=usable,
        net_info=net_info,
        name=_name(node, usable, taken),
        advertised_routes=advertised,
        approved_routes=approve(node.approved_routes, advertised, key),
    )


def approve(
    approved: Collection[routes.Prefix], advertised: Collection[routes.Prefix], key: AuthKey | None
) -> tuple[routes.Prefix, ...]:
    """Approvals with those its key brings. Approval sticks: a withdrawn route keeps it."""
    added = routes.auto_approved(advertised, key.approve_routes) if key is not None else frozenset()
    return routes.ordered(frozenset(approved) | added)


def _name(node: Node, hostinfo: Hostinfo, taken: Container[str]) -> str:
    if node.name_pinned or not hostinfo.hostname:
        return node.name
    wanted = names.label_from(hostinfo.hostname)
    if wanted == names.label_from(node.hostinfo.hostname) and node.name:
        return node.name
    return names.unique_label(wanted, taken)
