"""`/api/v1/keys`: pre-auth keys. The text of a key is in the answer to its creation and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from aiohttp import web

from warren_control import names, routes, users
from warren_control.api import audit, lists
from warren_control.api.access import Need, operation
from warren_control.api.problems import body_of, json_response
from warren_control.errors import InvalidError, NotFoundError
from warren_control.keys import new_key
from warren_control.model import MEMBERS_USER_ID, AuthKey, User
from warren_control.store import Store

_MAX_EXPIRY_SECONDS = 10 * 366 * 24 * 3600


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST."""

    user: str | None = None
    reusable: bool = False
    ephemeral: bool = False
    expires_in_seconds: Annotated[int, msgspec.Meta(ge=1, le=_MAX_EXPIRY_SECONDS)] | None = None
    tags: tuple[str, ...] = ()
    approve_routes: tuple[str, ...] = ()


def shown(key: AuthKey, owners: Mapping[int, User]) -> dict[str, Any]:
    """What is shown of a key."""
    return {
        "id": key.id,
        "user": owners[key.owner].name if key.owner in owners else None,
        "reusable": key.reusable,
        "ephemeral": key.ephemeral,
        "created": key.created,
        "expiry": key.expiry,
        "used_at": key.used_at,
        "tags": list(key.tags),
        "approve_routes": [str(route) for route in key.approve_routes],
        "bootstrap": key.bootstrap,
    }


class KeysApi:
    """Lists, makes and removes pre-auth keys."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/keys", self.list),
            web.post("/api/v1/keys", self.create),
            web.delete("/api/v1/keys/{id}", self.delete),
        ]

    @operation(Need.READ, query=("user",))
    async def list(self, request: web.Request) -> web.Response:
        """List the keys, without their secrets."""
        lists.known(request, ("user",))
        wanted = request.query.get("user")
        owner = None if wanted is None else users.named(wanted, self._store.snapshot).id
        found = (key for key in self._store.snapshot.keys.values() if owner in (None, key.owner))
        keys = sorted(found, key=lambda key: key.created)
        owners = self._store.snapshot.users
        return json_response({"keys": [shown(key, owners) for key in keys]})

    @operation(Need.JOIN, body=NewKey, status=201)
    async def create(self, request: web.Request) -> web.Response:
        """Make a key; its text is shown this once."""
        wish = await body_of(request, NewKey)
        for tag in wish.tags:
            if not names.is_tag(tag):
                raise InvalidError(f"{tag!r} is not a tag: `tag:`, a letter, then letters, digits and dashes")
        snapshot = self._store.snapshot
        owner = MEMBERS_USER_ID if wish.user is None else users.named(wish.user, snapshot).id
        now = self._clock()
        seconds = wish.expires_in_seconds
        key, text = new_key(
            now,
            reusable=wish.reusable,
            ephemeral=wish.ephemeral,
            expiry=None if seconds is None else now + timedelta(seconds=seconds),
            tags=tuple(sorted(set(wish.tags))),
            approve_routes=routes.parse_prefixes(wish.approve_routes),
            owner=owner,
        )
        async with self._store.writing() as writer:
            await writer.put_key(key)
        audit.changed(request, f"key {key.id}", None, shown(key, snapshot.users))
        return json_response({**shown(key, snapshot.users), "key": text}, status=201)

    @operation(Need.WRITE, status=204)
    async def delete(self, request: web.Request) -> web.Response:
        """Make a key unusable; machines that joined with it stay."""
        key_id = request.match_info["id"]
        async with self._store.writing() as writer:
            key = writer.snapshot.keys.get(key_id)
            if key is None:
                raise NotFoundError(f"there is no key {key_id[:64]}")
            await writer.remove_key(key_id)
        audit.changed(request, f"key {key_id}", shown(key, self._store.snapshot.users), None)
        return web.Response(status=204)
