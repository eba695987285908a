"""Answers of the admin API against the server's own description of it."""

from __future__ import annotations

import copy
import re
from typing import Any

import jsonschema


class Description:
    """An OpenAPI document that answers are held against, unknown members included."""

    def __init__(self, document: dict[str, Any]) -> None:
        closed = copy.deepcopy(document)
        for schema in closed["components"]["schemas"].values():
            if "properties" in schema:
                schema["additionalProperties"] = False
        self._document = closed
        self._paths: dict[re.Pattern[str], dict[str, Any]] = {
            re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): calls for path, calls in closed["paths"].items()
        }

    def check(self, method: str, path: str, status: int, answer: Any) -> None:
        """Fails where the answer is not what the description says; paths that it does not name are free."""
        calls = next((calls for known, calls in self._paths.items() if known.fullmatch(path)), None)
        if calls is None or method.lower() not in calls:
            return
        call = calls[method.lower()]
        described = call["responses"].get(str(status))
        assert described is not None, f"{method} {path} may not answer {status}"
        if status >= 400:
            assert set(answer) >= {"type", "title", "status", "detail"}, answer
            return
        content = described.get("content", {}).get("application/json")
        if content is None:
            assert answer is None, f"{method} {path} answers something that is not described"
            return
        whole = {**content["schema"], "components": self._document["components"]}
        jsonschema.validate(answer, whole)
