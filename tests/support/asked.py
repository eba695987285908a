"""Settings that remember which of them a program asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Asked(dict[str, Any]):
    """Empty settings with the sections that `names` need; every name asked for is put into `found`."""

    def __init__(self, names: Iterable[str], found: set[str], prefix: str = "") -> None:
        super().__init__()
        self._found = found
        self._prefix = prefix
        self._inner: dict[str, list[str]] = {}
        for name in names:
            first, dot, rest = name.partition(".")
            if dot:
                self._inner.setdefault(first, []).append(rest)

    def get(self, name: str, default: Any = None) -> Any:
        path = f"{self._prefix}{name}"
        if name in self._inner:
            return Asked(self._inner[name], self._found, f"{path}.")
        if f"{name}[]" in self._inner:
            return [Asked(self._inner[f"{name}[]"], self._found, f"{path}[].")]
        self._found.add(path)
        return default


def with_value(settings: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with a value at a dotted path; `[]` is the first entry of a list."""
    first, dot, rest = path.partition(".")
    if not dot:
        return {**settings, first: value}
    if first.endswith("[]"):
        name = first.removesuffix("[]")
        entries = settings.get(name) or [{}]
        return {**settings, name: [with_value(entries[0], rest, value), *entries[1:]]}
    return {**settings, first: with_value(settings.get(first) or {}, rest, value)}


def without(settings: dict[str, Any], path: str) -> dict[str, Any]:
    """A copy without the value at a dotted path."""
    first, dot, rest = path.partition(".")
    name = first.removesuffix("[]")
    if not dot:
        return {key: value for key, value in settings.items() if key != name}
    if name not in settings:
        return settings
    inner = settings[name]
    kept = [without(inner[0], rest), *inner[1:]] if first.endswith("[]") else without(inner, rest)
    return {**settings, name: kept}
