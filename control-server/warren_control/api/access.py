"""Who asks the admin API and what they may do. A handler says which scopes reach it."""

from __future__ import annotations

import enum
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from aiohttp import web

from warren_control.model import ApiToken, Scope
from warren_control.registration import secret_hash
from warren_control.store import Store

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[web.StreamResponse]])


class Need(enum.Enum):
    """What a handler does."""

    READ = "read"
    JOIN = "join"
    """Makes a key that machines join with."""
    WRITE = "write"


_ALLOWED: Final = {
    Scope.ADMIN: frozenset(Need),
    Scope.READ_ONLY: frozenset({Need.READ}),
    Scope.JOIN_ONLY: frozenset({Need.JOIN}),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, as the audit log names them."""

    name: str
    scope: Scope

    def may(self, need: Need) -> bool:
        return need in _ALLOWED[self.scope]


@dataclass(frozen=True, slots=True)
class Operation:
    """What the description of the API says of a handler."""

    need: Need
    answer: Any = None
    """Type of the JSON that it answers; None: it answers nothing, or something else than JSON."""
    body: Any = None
    """Type of the JSON that it wants."""
    query: tuple[str, ...] = ()
    status: int = 200
    media: str = "application/json"
    problems: tuple[int, ...] = ()
    """Statuses of problems beside those that follow from its kind."""


_OPERATION: Final = "_warren_operation"


def operation(
    need: Need,
    answer: Any = None,
    *,
    body: Any = None,
    query: tuple[str, ...] = (),
    status: int = 200,
    media: str = "application/json",
    problems: tuple[int, ...] = (),
) -> Callable[[Handler], Handler]:
    """Marks a handler; one that is not marked is for administrators alone."""

    def mark(handler: Handler) -> Handler:
        setattr(handler, _OPERATION, Operation(need, answer, body, query, status, media, problems))
        return handler

    return mark


def operation_of(handler: Any) -> Operation:
    found: Operation = getattr(handler, _OPERATION, Operation(Need.WRITE))
    return found


class Access:
    """Knows the tokens."""

    def __init__(self, token: str | None, store: Store, clock: Callable[[], datetime]) -> None:
        self._token = token
        self._store = store
        self._clock = clock

    @property
    def off(self) -> bool:
        """Nobody could get in over the network."""
        return self._token is None and not self._store.snapshot.tokens

    def actor(self, authorization: str) -> Actor | None:
        """Who that header is from."""
        given = authorization.removeprefix("Bearer ")
        if given == authorization:
            return None
        if self._token is not None and hmac.compare_digest(given.encode(), self._token.encode()):
            return Actor("admin token", Scope.ADMIN)
        hashed = secret_hash(given)
        found = next((token for token in self._store.snapshot.tokens.values() if _is(token, hashed)), None)
        if found is None or (found.expiry is not None and found.expiry <= self._clock()):
            return None
        return Actor(f"token {found.name or found.id}", found.scope)


def _is(token: ApiToken, hashed: str) -> bool:
    return hmac.compare_digest(token.secret_hash, hashed)
