"""`/api/v1/users`: the people who own machines and keys. A user is named by name or id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec
from aiohttp import web

from warren_control import users
from warren_control.api import audit, lists
from warren_control.api.access import Need, operation
from warren_control.api.problems import body_of, json_response
from warren_control.errors import NotFoundError
from warren_control.model import Snapshot, User
from warren_control.store import Store


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST."""

    name: str
    display_name: str = ""
    email: str = ""
    roles: tuple[str, ...] = ()


class UserPatch(msgspec.Struct, forbid_unknown_fields=True):
    """Body of PATCH."""

    name: str | None = None
    display_name: str | None = None
    email: str | None = None
    roles: tuple[str, ...] | None = None


class UserShown(msgspec.Struct):
    """What is shown of a user."""

    id: int
    name: str
    display_name: str
    email: str
    roles: tuple[str, ...]
    created: datetime
    nodes: int
    """How many machines the user owns."""


class Users(msgspec.Struct):
    """A page of users."""

    users: tuple[UserShown, ...]
    total: int


FILTERS: Final = ("name", "role", *lists.PAGE)


def shown(user: User, nodes: int) -> UserShown:
    roles = tuple(sorted(user.roles))
    return UserShown(user.id, user.name, user.display_name, user.email, roles, user.created, nodes)


class UsersApi:
    """Lists, makes, renames and removes users."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/users", self.list),
            web.post("/api/v1/users", self.create),
            web.get("/api/v1/users/{user}", self.get),
            web.patch("/api/v1/users/{user}", self.patch),
            web.delete("/api/v1/users/{user}", self.delete),
        ]

    @operation(Need.READ, Users, query=FILTERS)
    async def list(self, request: web.Request) -> web.Response:
        """List the users by id."""
        lists.known(request, FILTERS)
        snapshot, query = self._store.snapshot, request.query
        owned = Counter(node.owner for node in snapshot.nodes.values())
        found = [
            user
            for _, user in sorted(snapshot.users.items())
            if query.get("name", user.name) == user.name
            and ("role" not in query or query["role"] in user.roles)
        ]
        page = tuple(shown(user, owned[user.id]) for user in lists.page(request, found))
        return json_response(Users(page, len(found)))

    @operation(Need.READ, UserShown)
    async def get(self, request: web.Request) -> web.Response:
        """Show a user."""
        return self._answer(_wanted(self._store.snapshot, request))

    @operation(Need.WRITE, UserShown, body=NewUser, status=201, problems=(409,))
    async def create(self, request: web.Request) -> web.Response:
        """Make a user."""
        wish = await body_of(request, NewUser)
        async with self._store.writing() as writer:
            wanted = users.Wish(wish.name, wish.display_name, wish.email, wish.roles)
            user = users.new_user(wanted, writer.snapshot, self._clock())
            await writer.put_user(user)
        audit.changed(request, f"user {user.name}", None, shown(user, 0))
        return self._answer(user, status=201)

    @operation(Need.WRITE, UserShown, body=UserPatch, problems=(409,))
    async def patch(self, request: web.Request) -> web.Response:
        """Change a user; fields that are not given stay."""
        wish = await body_of(request, UserPatch)
        async with self._store.writing() as writer:
            user = _wanted(writer.snapshot, request)
            wanted = users.Wish(wish.name, wish.display_name, wish.email, wish.roles)
            changed = users.changed(user, wanted, writer.snapshot)
            if changed != user:
                await writer.put_user(changed)
        audit.changed(request, f"user {user.name}", shown(user, 0), shown(changed, 0))
        return self._answer(changed)

    @operation(Need.WRITE, status=204, problems=(409,))
    async def delete(self, request: web.Request) -> web.Response:
        """Remove a user who owns no machine, and that user's keys."""
        async with self._store.writing() as writer:
            user = _wanted(writer.snapshot, request)
            users.check_removable(user, writer.snapshot)
            await writer.remove_user(user)
        audit.changed(request, f"user {user.name}", shown(user, 0), None)
        return web.Response(status=204)

    def _answer(self, user: User, status: int = 200) -> web.Response:
        owned = sum(node.owner == user.id for node in self._store.snapshot.nodes.values())
        return json_response(shown(user, owned), status=status)


def _wanted(snapshot: Snapshot, request: web.Request) -> User:
    text = request.match_info["user"]
    if text.isascii() and text.isdigit() and len(text) < 17:
        user = snapshot.users.get(int(text))
        if user is None:
            raise NotFoundError(f"there is no user {text}")
        return user
    return users.named(text, snapshot)
