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
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


def describe(routes: Iterable[web.RouteDef]) -> dict[str, Any]:
    """The OpenAPI document of some routes."""
    routes = [route for route in routes if route.path.startswith("/api/")]
    bodies = [body for route in routes if (body := operation_of(route.handler).body) is not None]
    _, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _described(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Warren control server", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _described(route: web.RouteDef) -> dict[str, Any]:
    about = operation_of(route.handler)
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    document: dict[str, Any] = {
        "summary": (inspect.getdoc(route.handler) or "").partition("\n")[0],
        "operationId": _name(route),
        "parameters": [*_path_parameters(route.path), *_query_parameters(about)],
        "responses": {
            str(about.status): {"description": "Done" if about.status == 204 else "The record or records"},
            "default": {"description": "What is wrong", "content": problem},
        },
        "x-warren-need": about.need.value,
    }
    if about.body is not None:
        schema = {"$ref": f"#/components/schemas/{about.body.__name__}"}
        document["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return document


def _name(route: web.RouteDef) -> str:
    words = [word for word in re.split(r"[/{}.]+", route.path) if word not in ("", "api", "v1")]
    return "_".join([route.method.lower(), *words])


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]


def _query_parameters(about: Operation) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": {"type": "string"}} for name in about.query]


class OpenApi:
    """Serves the document."""

    def __init__(self, routes: Iterable[web.RouteDef]) -> None:
        self._document = describe([*routes, *self.routes()])

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/v1/openapi.json", self.get)]

    @operation(Need.READ)
    async def get(self, request: web.Request) -> web.Response:
        """This description."""
        return json_response(self._document)
