"""`/api/v1/openapi.json`: the description of the API, made from its handlers and their bodies' types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from aiohttp import web

from warren_control.api.access import Need, Operation, operation, operation_of
from warren_control.api.problems import json_response
from warren_wire import __version__

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_REFERENCE: Final = "#/components/schemas/{name}"
_NUMBERS: Final = frozenset({"limit", "offset", "after"})
_FLAGS: Final = frozenset({"online"})


class Problem(msgspec.Struct):
    """What went wrong (RFC 9457); some calls add members of their own."""

    type: str
    title: str
    status: int
    detail: str


_REASONS: Final = {
    401: "No token, or one that is not known or has expired",
    403: "A token that may not do that",
    404: "There is no such record",
    409: "It does not go together with other records",
    412: "The record has changed since",
    422: "Something that was given is not acceptable",
    503: "Records cannot be stored at the moment",
}


def describe(routes: Iterable[web.RouteDef]) -> dict[str, Any]:
    """The OpenAPI document of some routes."""
    routes = [route for route in routes if route.path.startswith("/api/")]
    described = [operation_of(route.handler) for route in routes]
    types = [kind for about in described for kind in (about.body, about.answer) if kind is not None]
    kinds = list(dict.fromkeys((*types, Problem)))
    references, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    schemas = dict(zip(kinds, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _described(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Warren control server",
            "version": __version__,
            "description": "Machines, users, keys, relays, policy of a mesh. Errors are problem documents.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                str(status): {
                    "description": reason,
                    "content": {"application/problem+json": {"schema": schemas[Problem]}},
                }
                for status, reason in _REASONS.items()
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _described(route: web.RouteDef, schemas: dict[Any, Any]) -> dict[str, Any]:
    about = operation_of(route.handler)
    answer: dict[str, Any] = {"description": "Done"}
    if about.answer is not None:
        answer = _json("What was asked for", schemas[about.answer])
    elif about.status != 204:
        answer = {"description": "What was asked for", "content": {about.media: {}}}
    responses = {str(about.status): answer}
    if route.method == "PUT" and about.status == 200:
        responses["201"] = _json("It is new", schemas[about.answer])
    document: dict[str, Any] = {
        "summary": (inspect.getdoc(route.handler) or "").partition("\n")[0],
        "operationId": _name(route),
        "tags": [route.path.split("/")[3].partition(".")[0]],
        "parameters": [*_path_parameters(route.path), *_query_parameters(about)],
        "responses": responses
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in _problems(route, about)},
        "x-warren-need": about.need.value,
    }
    if about.body is not None:
        document["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas[about.body]}},
        }
    return document


def _json(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problems(route: web.RouteDef, about: Operation) -> list[int]:
    found = {401, 403, *about.problems}
    if "{" in route.path:
        found.add(404)
    if about.body is not None or about.query:
        found.add(422)
    if about.need is not Need.READ:
        found.add(503)
    return sorted(found)


def _name(route: web.RouteDef) -> str:
    words = [word for word in re.split(r"[/{}.]+", route.path) if word not in ("", "api", "v1")]
    return "_".join([route.method.lower(), *words])


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _query_parameters(about: Operation) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": _of_query(name)} for name in about.query]


def _of_query(name: str) -> dict[str, Any]:
    if name in _NUMBERS:
        return {"type": "integer", "minimum": 0}
    return {"type": "boolean"} if name in _FLAGS else {"type": "string"}


class OpenApi:
    """Serves the document."""

    def __init__(self, routes: Iterable[web.RouteDef]) -> None:
        self._document = describe([*routes, *self.routes()])

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/openapi.json", self.get)]

    @operation(Need.READ, dict[str, Any])
    async def get(self, request: web.Request) -> web.Response:
        """This description."""
        return json_response(self._document)
