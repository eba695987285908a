"""`/api/v1/ssh/checks`: SSH connections that wait for approval."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from aiohttp import web

from warren_control.api import audit, lists
from warren_control.api.access import Need, operation
from warren_control.api.problems import json_response
from warren_control.errors import NotFoundError
from warren_control.model import Node, Snapshot
from warren_control.ssh_checks import SshCheck, SshChecks
from warren_control.store import Store


class Check(msgspec.Struct):
    """What is shown of a held connection."""

    id: str
    user: str
    source: str
    destination: str
    login: str
    since: datetime
    expires: datetime


class DecidedCheck(Check):
    """A connection that somebody decided on."""

    verdict: Literal["approved", "denied"]


class Checks(msgspec.Struct):
    """A page of held connections."""

    checks: tuple[Check, ...]
    total: int


def shown(check: SshCheck, snapshot: Snapshot) -> Check:
    source = snapshot.nodes.get(check.login.source)
    owner = snapshot.users.get(source.owner) if source is not None else None
    return Check(
        id=check.id,
        user=owner.name if owner is not None else "",
        source=_name(source),
        destination=_name(snapshot.nodes.get(check.login.destination)),
        login=check.login.user,
        since=check.since,
        expires=check.expires,
    )


def decide(
    request: web.Request, checks: SshChecks, check: SshCheck, snapshot: Snapshot, *, approved: bool
) -> DecidedCheck:
    """Decides and writes the audit line; gives what the answer shows."""
    verdict: Literal["approved", "denied"] = "approved" if approved else "denied"
    decided = DecidedCheck(**msgspec.structs.asdict(shown(check, snapshot)), verdict=verdict)
    checks.decide(check, approved)
    audit.changed(request, f"ssh check {check.id}", None, decided)
    return decided


def undecided(checks: SshChecks, wanted: str) -> SshCheck | None:
    found = checks.find(wanted)
    return found if found is not None and found.approved is None else None


class SshChecksApi:
    """Lists, approves and denies."""

    def __init__(self, store: Store, checks: SshChecks) -> None:
        self._store = store
        self._checks = checks

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/ssh/checks", self.list),
            web.post("/api/v1/ssh/checks/{id}/approve", self.approve),
            web.post("/api/v1/ssh/checks/{id}/deny", self.deny),
        ]

    @operation(Need.READ, Checks, query=lists.PAGE)
    async def list(self, request: web.Request) -> web.Response:
        """List the SSH connections that wait for approval."""
        lists.known(request, lists.PAGE)
        snapshot, found = self._store.snapshot, tuple(self._checks.undecided())
        return json_response(
            Checks(tuple(shown(check, snapshot) for check in lists.page(request, found)), len(found))
        )

    @operation(Need.WRITE, DecidedCheck)
    async def approve(self, request: web.Request) -> web.Response:
        """Let a held SSH connection through, and later ones of the same login for the rule's check period."""
        return self._decided(request, approved=True)

    @operation(Need.WRITE, DecidedCheck)
    async def deny(self, request: web.Request) -> web.Response:
        """Refuse a held SSH connection."""
        return self._decided(request, approved=False)

    def _decided(self, request: web.Request, *, approved: bool) -> web.Response:
        wanted = request.match_info["id"]
        check = undecided(self._checks, wanted)
        if check is None:
            raise NotFoundError(f"no connection waits as {wanted[:64]}: it was decided, or has expired")
        return json_response(decide(request, self._checks, check, self._store.snapshot, approved=approved))


def _name(node: Node | None) -> str:
    return node.name if node is not None else ""
