"""Errors of the admin API as problem documents (RFC 9457), and the token that guards it."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from http import HTTPStatus
from typing import TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from warren_control.api.access import Access, Actor, operation_of
from warren_control.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    PoolExhaustedError,
    UnavailableError,
)

logger = logging.getLogger(__name__)

# Each request is a task of its own, and so has its own value.
ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)

T = TypeVar("T", bound=msgspec.Struct)


def problem(status: int, detail: str, **members: object) -> web.Response:
    """A problem document; `members` say more of it."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **members,
    }
    response = web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/problem+json"
    )
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="warren"'
    return response


def authorise(access: Access, prefix: str, local: Actor | None = None) -> Middleware:
    """Middleware that asks for a token below `prefix` and turns errors into problem documents.

    With `local` everyone who can connect is that actor: the rights of a socket's file decide.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(prefix):
            return await handler(request)
        actor = local
        if actor is None:
            if access.off:
                return problem(403, "the admin API is off: set admin_token_file")
            actor = access.actor(request.headers.get("Authorization", ""))
        if actor is None:
            return problem(401, "a bearer token is needed")
        need = operation_of(request.match_info.handler).need
        if request.match_info.http_exception is None and not actor.may(need):
            return problem(403, f"a token of scope {actor.scope.value} may not do that")
        ACTOR.set(actor)
        try:
            return await handler(request)
        except NotFoundError as error:
            return problem(404, str(error))
        except (ConflictError, PoolExhaustedError) as error:
            return problem(409, str(error))
        except InvalidError as error:
            return problem(422, str(error))
        except UnavailableError as error:
            return problem(503, str(error))
        except web.HTTPException as error:
            return problem(error.status, error.reason) if error.status >= 400 else error

    return middleware


async def body_of(request: web.Request, kind: type[T]) -> T:
    """The JSON body as `kind`, or `InvalidError` with the place of the first mistake."""
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"the body is not acceptable: {error}") from error


def json_response(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
