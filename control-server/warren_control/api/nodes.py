"""`/api/v1/nodes`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime

import msgspec
from aiohttp import web

from warren_control.allocation import Pools
from warren_control.api import audit, lists
from warren_control.api.access import Need, operation
from warren_control.api.problems import body_of, json_response
from warren_control.edits import Edit, edited
from warren_control.errors import NotFoundError
from warren_control.hub import Hub
from warren_control.model import Node, Snapshot
from warren_control.netmap.owners import profile_of
from warren_control.relaymap import RelayMap
from warren_control.store import Store


class NodePatch(msgspec.Struct, forbid_unknown_fields=True):
    """Body of PATCH."""

    name: str | None = None
    approved_routes: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    disabled: bool | None = None
    addresses: tuple[str, ...] | None = None
    expiry: datetime | msgspec.UnsetType | None = msgspec.UNSET
    """When it must log in again; null: it need not, now and after later logins."""


class HomeRelay(msgspec.Struct):
    """The relay region where a node listens."""

    region_id: int
    code: str


class NodeShown(msgspec.Struct):
    """What is shown of a node."""

    id: int
    name: str
    fqdn: str
    addresses: tuple[str, ...]
    machine_key: str
    node_key: str
    disco_key: str | None
    os: str
    client_version: str
    hostname: str
    endpoints: tuple[str, ...]
    home_relay: HomeRelay | None
    online: bool
    last_seen: datetime | None
    created: datetime
    expiry: datetime | None
    expiry_disabled: bool
    tags: tuple[str, ...]
    advertised_routes: tuple[str, ...]
    approved_routes: tuple[str, ...]
    primary_routes: tuple[str, ...]
    user: str
    ephemeral: bool
    disabled: bool


class Nodes(msgspec.Struct, omit_defaults=True):
    """A page of nodes."""

    revision: int
    nodes: tuple[NodeShown, ...]
    total: int
    """How many match, on this page and on others."""
    next: int | None = None
    """What to give as `after` for the following page; not there on the last one."""


FILTERS = ("name", "user", "tag", "online", "limit", "after")


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

    @operation(Need.READ, Nodes, query=FILTERS)
    async def list(self, request: web.Request) -> web.Response:
        """List nodes by id; with `limit`, `next` is what to give as `after` for the following page."""
        lists.known(request, FILTERS)
        snapshot = self._store.snapshot
        found = _filtered(snapshot, request)
        after = lists.number(request, "after", 0, low=0, high=2**53)
        rest = [node for node in found if node.id > after]
        limit = lists.number(request, "limit", len(rest) or 1, low=1, high=lists.MAX_LIMIT)
        shown = tuple(self._shown(snapshot, node) for node in rest[:limit])
        following = rest[limit - 1].id if len(rest) > limit else None
        return json_response(Nodes(snapshot.revision, shown, len(found), following))

    @operation(Need.READ, NodeShown)
    async def get(self, request: web.Request) -> web.Response:
        """Show a node."""
        snapshot = self._store.snapshot
        return json_response(self._shown(snapshot, _wanted(snapshot, request)))

    @operation(Need.WRITE, NodeShown, body=NodePatch, problems=(409,))
    async def patch(self, request: web.Request) -> web.Response:
        """Change a node; fields that are not given stay."""
        wish = await body_of(request, NodePatch)
        edit = Edit(wish.name, wish.approved_routes, wish.tags, wish.disabled, wish.addresses, wish.expiry)
        async with self._store.writing() as writer:
            node = _wanted(writer.snapshot, request)
            changed = edited(node, edit, writer.snapshot, self._pools, self._clock())
            if changed != node:
                await writer.put(changed)
                changed = writer.snapshot.nodes[node.id]
        self._audit(request, node, changed)
        if changed.disabled != node.disabled:
            # Its view changes as a whole, so it starts a new one.
            self._hub.end(node.id)
        return json_response(self._shown(self._store.snapshot, changed))

    @operation(Need.WRITE, status=204)
    async def delete(self, request: web.Request) -> web.Response:
        """Remove a node from the mesh; its machine is logged out."""
        async with self._store.writing() as writer:
            node = _wanted(writer.snapshot, request)
            await writer.remove(node, self._clock())
        self._audit(request, node, None)
        return web.Response(status=204)

    @operation(Need.WRITE, NodeShown)
    async def expire(self, request: web.Request) -> web.Response:
        """Log a node out now; its record stays."""
        now = self._clock()
        async with self._store.writing() as writer:
            node = _wanted(writer.snapshot, request)
            if not node.expired(now):
                before, node = node, dataclasses.replace(node, expiry=now)
                await writer.put(node)
                self._audit(request, before, node)
        return json_response(self._shown(self._store.snapshot, node))

    def _audit(self, request: web.Request, before: Node, after: Node | None) -> None:
        snapshot = self._store.snapshot
        new = self._shown(snapshot, after) if after is not None else None
        audit.changed(request, f"node {before.id} {before.name}", self._shown(snapshot, before), new)

    def _shown(self, snapshot: Snapshot, node: Node) -> NodeShown:
        region = self._relays.regions(snapshot).get(node.home_region)
        home = HomeRelay(node.home_region, region.region_code if region else "")
        return NodeShown(
            id=node.id,
            name=node.name,
            fqdn=f"{node.name}.{self._base_domain}",
            addresses=tuple(str(address) for address in node.addresses),
            machine_key=str(node.machine_key),
            node_key=str(node.node_key),
            disco_key=str(node.disco_key) if node.disco_key is not None else None,
            os=node.hostinfo.os,
            client_version=node.hostinfo.ipn_version,
            hostname=node.hostinfo.hostname,
            endpoints=tuple(node.endpoints),
            home_relay=home if node.home_region else None,
            online=node.online,
            last_seen=node.last_seen,
            created=node.created,
            expiry=node.expiry,
            expiry_disabled=node.expiry_disabled,
            tags=tuple(node.tags),
            advertised_routes=tuple(str(route) for route in node.advertised_routes),
            approved_routes=tuple(str(route) for route in node.approved_routes),
            primary_routes=tuple(str(route) for route in snapshot.primary_routes(node)),
            user=profile_of(snapshot, node.user_id).login_name,
            ephemeral=node.ephemeral,
            disabled=node.disabled,
        )


def _filtered(snapshot: Snapshot, request: web.Request) -> list[Node]:
    online = lists.flag(request, "online")
    query = request.query
    return [
        node
        for _, node in sorted(snapshot.nodes.items())
        if query.get("name", node.name) == node.name
        and ("user" not in query or profile_of(snapshot, node.user_id).login_name == query["user"])
        and ("tag" not in query or query["tag"] in node.tags)
        and online in (None, node.online)
    ]


def _wanted(snapshot: Snapshot, request: web.Request) -> Node:
    text = request.match_info["id"]
    node = snapshot.nodes.get(int(text)) if text.isascii() and text.isdigit() and len(text) < 17 else None
    if node is None:
        raise NotFoundError(f"there is no node {text[:32]}")
    return node
