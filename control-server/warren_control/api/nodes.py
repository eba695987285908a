"""`/api/v1/nodes`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from aiohttp import web

from warren_control.allocation import Pools
from warren_control.api.problems import body_of, json_response
from warren_control.edits import Edit, edited
from warren_control.errors import NotFoundError
from warren_control.hub import Hub
from warren_control.model import Node, Snapshot
from warren_control.netmap import profile_of
from warren_control.relaymap import RelayMap
from warren_control.store import Store


class NodePatch(msgspec.Struct, forbid_unknown_fields=True):
    """Body of PATCH."""

    name: str | None = None
    approved_routes: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    disabled: bool | None = None
    addresses: tuple[str, ...] | None = None


class NodesApi:
    """Lists, changes and removes nodes."""

    def __init__(
        self,
        store: Store,
        hub: Hub,
        pools: Pools,
        relays: RelayMap,
        base_domain: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._hub = hub
        self._pools = pools
        self._relays = relays
        self._base_domain = base_domain
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/nodes", self.list),
            web.get("/api/v1/nodes/{id}", self.get),
            web.patch("/api/v1/nodes/{id}", self.patch),
            web.delete("/api/v1/nodes/{id}", self.delete),
            web.post("/api/v1/nodes/{id}/expire", self.expire),
        ]

    async def list(self, request: web.Request) -> web.Response:
        snapshot = self._store.snapshot
        nodes = [self._shown(snapshot, snapshot.nodes[number]) for number in sorted(snapshot.nodes)]
        return json_response({"revision": snapshot.revision, "nodes": nodes})

    async def get(self, request: web.Request) -> web.Response:
        snapshot = self._store.snapshot
        return json_response(self._shown(snapshot, _wanted(snapshot, request)))

    async def patch(self, request: web.Request) -> web.Response:
        wish = await body_of(request, NodePatch)
        edit = Edit(wish.name, wish.approved_routes, wish.tags, wish.disabled, wish.addresses)
        async with self._store.writing() as writer:
            node = _wanted(writer.snapshot, request)
            changed = edited(node, edit, writer.snapshot, self._pools, self._clock())
            if changed != node:
                await writer.put(changed)
        if changed.disabled != node.disabled:
            # Its view changes as a whole, so it starts a new one.
            self._hub.end(node.id)
        return json_response(self._shown(self._store.snapshot, changed))

    async def delete(self, request: web.Request) -> web.Response:
        async with self._store.writing() as writer:
            node = _wanted(writer.snapshot, request)
            await writer.remove(node, self._clock())
        return web.Response(status=204)

    async def expire(self, request: web.Request) -> web.Response:
        now = self._clock()
        async with self._store.writing() as writer:
            node = _wanted(writer.snapshot, request)
            if not node.expired(now):
                node = dataclasses.replace(node, expiry=now)
                await writer.put(node)
        return json_response(self._shown(self._store.snapshot, node))

    def _shown(self, snapshot: Snapshot, node: Node) -> dict[str, Any]:
        region = self._relays.regions(snapshot).get(node.home_region)
        home = {"region_id": node.home_region, "code": region.region_code if region else ""}
        return {
            "id": node.id,
            "name": node.name,
            "fqdn": f"{node.name}.{self._base_domain}",
            "addresses": [str(node.v4), str(node.v6)],
            "machine_key": str(node.machine_key),
            "node_key": str(node.node_key),
            "disco_key": str(node.disco_key) if node.disco_key is not None else None,
            "os": node.hostinfo.os,
            "client_version": node.hostinfo.ipn_version,
            "hostname": node.hostinfo.hostname,
            "endpoints": list(node.endpoints),
            "home_relay": home if node.home_region else None,
            "online": node.online,
            "last_seen": node.last_seen,
            "created": node.created,
            "expiry": node.expiry,
            "tags": list(node.tags),
            "advertised_routes": [str(route) for route in node.advertised_routes],
            "approved_routes": [str(route) for route in node.approved_routes],
            "primary_routes": [str(route) for route in snapshot.primary_routes(node)],
            "user": profile_of(snapshot, node).login_name,
            "ephemeral": node.ephemeral,
            "disabled": node.disabled,
        }


def _wanted(snapshot: Snapshot, request: web.Request) -> Node:
    text = request.match_info["id"]
    node = snapshot.nodes.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 17 else None
    if node is None:
        raise NotFoundError(f"there is no node {text[:32]}")
    return node
