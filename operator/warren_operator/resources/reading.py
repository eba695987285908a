"""Reading values out of a resource's JSON, collecting every problem with its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


class Reader:
    """One object inside a resource. Defaults are those of the schema, for objects made before it had them."""

    def __init__(self, value: object, path: str, problems: list[str]) -> None:
        self.path = path
        self.problems = problems
        self.value: Mapping[str, Any] = {}
        if isinstance(value, Mapping):
            self.value = value
        elif value is not None:
            problems.append(f"{path}: must be an object")

    def has(self, name: str) -> bool:
        return self.value.get(name) is not None

    def child(self, name: str) -> Reader:
        return Reader(self.value.get(name), f"{self.path}.{name}", self.problems)

    def text(self, name: str, default: str | None = None) -> str:
        value = self.value.get(name, default)
        if isinstance(value, str) and value:
            return value
        self.problem(name, "must be a text")
        return default or ""

    def optional_text(self, name: str) -> str | None:
        return self.text(name) if self.has(name) else None

    def number(self, name: str, default: int) -> int:
        value = self.value.get(name, default)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self.problem(name, "must be a whole number")
        return default

    def optional_number(self, name: str) -> int | None:
        return self.number(name, 0) if self.has(name) else None

    def flag(self, name: str, default: bool) -> bool:
        value = self.value.get(name, default)
        if isinstance(value, bool):
            return value
        self.problem(name, "must be true or false")
        return default

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.value.get(name) or []
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        self.problem(name, "must be a list of texts")
        return ()

    def text_map(self, name: str) -> dict[str, str]:
        value = self.value.get(name) or {}
        if isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values()):
            return dict(value)
        self.problem(name, "must be a map of texts")
        return {}

    def url(self, name: str) -> str:
        text = self.text(name).rstrip("/")
        try:
            parts = urlsplit(text)
            parts.port  # noqa: B018 - reading it is what checks it
        except ValueError:
            self.problem(name, "must be a URL such as https://203.0.113.10")
            return text
        if text and (parts.scheme not in ("https", "http") or not parts.hostname):
            self.problem(name, "must be a URL such as https://203.0.113.10")
        return text

    def problem(self, name: str, text: str) -> None:
        self.problems.append(f"{self.path}.{name}: {text}")
