"""Errors of the admin API as problem documents (RFC 9457), and the token that guards it."""

from __future__ import annotations

import hmac
import logging
from http import HTTPStatus
from typing import TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from warren_control.errors import ConflictError, InvalidError, NotFoundError, PoolExhaustedError

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=msgspec.Struct)


def problem(status: int, detail: str) -> web.Response:
    """A problem document."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/problem+json"
    )
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="warren"'
    return response


def authorise(token: str | None, prefix: str) -> Middleware:
    """Middleware that asks for the token below `prefix` and turns errors into problem documents."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(prefix):
            return await handler(request)
        if token is None:
            return problem(403, "the admin API is off: set admin_token_file")
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return problem(401, "a bearer token is needed")
        try:
            return await handler(request)
        except NotFoundError as error:
            return problem(404, str(error))
        except (ConflictError, PoolExhaustedError) as error:
            return problem(409, str(error))
        except InvalidError as error:
            return problem(422, str(error))
        except web.HTTPException as error:
            return problem(error.status, error.reason) if error.status >= 400 else error

    return middleware


async def body_of(request: web.Request, kind: type[T]) -> T:
    """The JSON body as `kind`, or `InvalidError` with the place of the first mistake."""
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise InvalidError(f"the body is not acceptable: {error}") from error


def json_response(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")
