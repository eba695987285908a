"""`/api/v1/keys`: pre-auth keys. The text of a key is in the answer to its creation and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final

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


class Key(msgspec.Struct):
    """What is shown of a key."""

    id: str
    user: str | None
    reusable: bool
    ephemeral: bool
    created: datetime
    expiry: datetime | None
    used_at: datetime | None
    tags: tuple[str, ...]
    approve_routes: tuple[str, ...]
    bootstrap: bool
    """The configuration gave it."""


class MadeKey(Key):
    """A key at its creation."""

    key: str


class Keys(msgspec.Struct):
    """A page of keys."""

    keys: tuple[Key, ...]
    total: int


FILTERS: Final = ("user", "tag", *lists.PAGE)


def shown(key: AuthKey, owners: Mapping[int, User]) -> Key:
    return Key(
        id=key.id,
        user=owners[key.owner].name if key.owner in owners else None,
        reusable=key.reusable,
        ephemeral=key.ephemeral,
        created=key.created,
        expiry=key.expiry,
        used_at=key.used_at,
        tags=key.tags,
        approve_routes=tuple(str(route) for route in key.approve_routes),
        bootstrap=key.bootstrap,
    )


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

    @operation(Need.READ, Keys, query=FILTERS, problems=(404,))
    async def list(self, request: web.Request) -> web.Response:
        """List the keys, without their secrets, the oldest first."""
        lists.known(request, FILTERS)
        snapshot, wanted, tag = self._store.snapshot, request.query.get("user"), request.query.get("tag")
        owner = None if wanted is None else users.named(wanted, snapshot).id
        matching = (
            key
            for key in snapshot.keys.values()
            if owner in (None, key.owner) and (tag is None or tag in key.tags)
        )
        found = sorted(matching, key=lambda key: key.created)
        page = tuple(shown(key, snapshot.users) for key in lists.page(request, found))
        return json_response(Keys(page, len(found)))

    @operation(Need.JOIN, MadeKey, body=NewKey, status=201, problems=(404,))
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
        made = msgspec.structs.asdict(shown(key, snapshot.users))
        return json_response(MadeKey(**made, key=text), status=201)

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
