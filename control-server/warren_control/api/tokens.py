"""`/api/v1/tokens`: tokens of this API. The text of a token is in the answer to its creation alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from aiohttp import web

from warren_control.api import audit, lists
from warren_control.api.access import Need, operation
from warren_control.api.problems import body_of, json_response
from warren_control.errors import NotFoundError
from warren_control.model import ApiToken, Scope
from warren_control.registration import secret_hash
from warren_control.store import Store

PREFIX: Final = "warren-api"
_MAX_EXPIRY_SECONDS: Final = 10 * 366 * 24 * 3600


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST."""

    scope: Scope
    name: Annotated[str, msgspec.Meta(max_length=128)] = ""
    expires_in_seconds: Annotated[int, msgspec.Meta(ge=1, le=_MAX_EXPIRY_SECONDS)] | None = None


class Token(msgspec.Struct):
    """What is shown of a token."""

    id: str
    name: str
    scope: Scope
    created: datetime
    expiry: datetime | None


class MadeToken(Token):
    """A token at its creation."""

    token: str


class Tokens(msgspec.Struct):
    """A page of tokens."""

    tokens: tuple[Token, ...]
    total: int


FILTERS: Final = ("scope", *lists.PAGE)


def shown(token: ApiToken) -> Token:
    return Token(token.id, token.name, token.scope, token.created, token.expiry)


class TokensApi:
    """Lists, makes and removes tokens; for administrators alone."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/tokens", self.list),
            web.post("/api/v1/tokens", self.create),
            web.delete("/api/v1/tokens/{id}", self.delete),
        ]

    @operation(Need.WRITE, Tokens, query=FILTERS)
    async def list(self, request: web.Request) -> web.Response:
        """List the tokens, without their secrets, the oldest first."""
        lists.known(request, FILTERS)
        scope = request.query.get("scope")
        wanted = (
            token for token in self._store.snapshot.tokens.values() if scope in (None, token.scope.value)
        )
        found = sorted(wanted, key=lambda token: token.created)
        page = tuple(shown(token) for token in lists.page(request, found))
        return json_response(Tokens(page, len(found)))

    @operation(Need.WRITE, MadeToken, body=NewToken, status=201)
    async def create(self, request: web.Request) -> web.Response:
        """Make a token; its text is shown this once."""
        wish = await body_of(request, NewToken)
        now, token_id = self._clock(), secrets.token_hex(6)
        text = f"{PREFIX}-{token_id}-{secrets.token_urlsafe(32)}"
        seconds = wish.expires_in_seconds
        expiry = None if seconds is None else now + timedelta(seconds=seconds)
        token = ApiToken(token_id, secret_hash(text), wish.name, wish.scope, now, expiry)
        async with self._store.writing() as writer:
            await writer.put_token(token)
        audit.changed(request, f"token {token.id}", None, shown(token))
        return json_response(MadeToken(**msgspec.structs.asdict(shown(token)), token=text), status=201)

    @operation(Need.WRITE, status=204)
    async def delete(self, request: web.Request) -> web.Response:
        """Make a token unusable."""
        token_id = request.match_info["id"]
        async with self._store.writing() as writer:
            token = writer.snapshot.tokens.get(token_id)
            if token is None:
                raise NotFoundError(f"there is no token {token_id[:64]}")
            await writer.remove_token(token_id)
        audit.changed(request, f"token {token_id}", shown(token), None)
        return web.Response(status=204)
