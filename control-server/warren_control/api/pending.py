"""`/api/v1/pending`: machines that wait for approval."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from aiohttp import web

from warren_control import names, users
from warren_control.api import audit, lists
from warren_control.api.access import Need, operation
from warren_control.api.problems import body_of, json_response
from warren_control.errors import InvalidError, NotFoundError
from warren_control.model import MEMBERS_USER_ID
from warren_control.pending import Pending, PendingLogins
from warren_control.registration import Grant
from warren_control.store import Store
from warren_control.tag_requests import unpermitted
from warren_control.transport.registering import Registrar


class Approval(msgspec.Struct, forbid_unknown_fields=True):
    """Body of the approval; without `tags` the machine gets those it asked for."""

    user: str | None = None
    tags: tuple[str, ...] | None = None


class PendingMachine(msgspec.Struct):
    """What is shown of a waiting machine."""

    id: str
    hostname: str
    os: str
    machine_key: str
    source: str
    requested_tags: tuple[str, ...]
    advertised_routes: tuple[str, ...]
    since: datetime
    expires: datetime


class PendingMachines(msgspec.Struct):
    """A page of waiting machines."""

    pending: tuple[PendingMachine, ...]
    total: int


class Joined(msgspec.Struct):
    """The node that a waiting machine became."""

    id: int
    name: str
    addresses: tuple[str, ...]


FILTERS: Final = ("hostname", *lists.PAGE)


def shown(pending: Pending) -> PendingMachine:
    return PendingMachine(
        id=pending.id,
        hostname=pending.hostinfo.hostname,
        os=pending.hostinfo.os,
        machine_key=str(pending.machine),
        source=pending.source,
        requested_tags=tuple(requested_tags(pending)),
        advertised_routes=tuple(map(str, pending.hostinfo.routable_ips)),
        since=pending.since,
        expires=pending.expires,
    )


def requested_tags(pending: Pending) -> list[str]:
    return sorted({tag for tag in pending.hostinfo.request_tags if names.is_tag(tag)})


class PendingApi:
    """Lists, approves and refuses."""

    def __init__(self, store: Store, pending: PendingLogins, registrar: Registrar) -> None:
        self._store = store
        self._pending = pending
        self._registrar = registrar

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/pending", self.list),
            web.post("/api/v1/pending/{id}/approve", self.approve),
            web.delete("/api/v1/pending/{id}", self.reject),
        ]

    @operation(Need.READ, PendingMachines, query=FILTERS)
    async def list(self, request: web.Request) -> web.Response:
        """List the machines that wait for approval."""
        lists.known(request, FILTERS)
        wanted = request.query.get("hostname")
        found = [pending for pending in self._pending if wanted in (None, pending.hostinfo.hostname)]
        page = tuple(shown(pending) for pending in lists.page(request, found))
        return json_response(PendingMachines(page, len(found)))

    @operation(Need.WRITE, Joined, body=Approval, problems=(409,))
    async def approve(self, request: web.Request) -> web.Response:
        """Let a waiting machine in."""
        pending = self._wanted(request)
        wish = await body_of(request, Approval)
        snapshot = self._store.snapshot
        owner = MEMBERS_USER_ID if wish.user is None else users.named(wish.user, snapshot).id
        tags = requested_tags(pending) if wish.tags is None else wish.tags
        for tag in tags:
            if not names.is_tag(tag):
                raise InvalidError(f"{tag!r} is not a tag: `tag:`, a letter, then letters, digits and dashes")
        owners = self._store.enforcer.tag_owners
        if wish.tags is None and owners is not None and (refused := unpermitted(tags, owner, (), owners)):
            # Whoever names tags decides; otherwise the policy does.
            shown_tags = ", ".join(refused)
            raise InvalidError(f"tagOwners of the policy do not permit {shown_tags}: name the tags to give")
        node = await self._registrar.approve(pending, Grant(owner, tuple(sorted(set(tags)))))
        granted = {"node": node.id, "name": node.name, "user": wish.user, "tags": list(node.tags)}
        audit.changed(request, f"pending {pending.id}", None, granted)
        return json_response(Joined(node.id, node.name, tuple(str(address) for address in node.addresses)))

    @operation(Need.WRITE, status=204)
    async def reject(self, request: web.Request) -> web.Response:
        """Refuse a waiting machine."""
        pending = self._wanted(request)
        self._pending.reject(pending)
        audit.changed(request, f"pending {pending.id}", {"hostname": pending.hostinfo.hostname}, None)
        return web.Response(status=204)

    def _wanted(self, request: web.Request) -> Pending:
        wanted = request.match_info["id"]
        pending = self._pending.find(wanted)
        if pending is None:
            raise NotFoundError(f"no machine waits as {wanted[:64]}: its link may have expired")
        return pending
