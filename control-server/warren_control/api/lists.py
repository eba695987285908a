"""Filters and pages of lists: what the query says, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from aiohttp import web

from warren_control.errors import InvalidError

MAX_LIMIT: Final = 1000
PAGE: Final = ("limit", "offset")
T = TypeVar("T")


def known(request: web.Request, names: tuple[str, ...]) -> None:
    """A filter that is not understood must not silently show everything."""
    unheard = sorted(set(request.query) - set(names))
    if unheard:
        raise InvalidError(f"unknown filter {unheard[0][:32]!r}: known are {', '.join(names)}")


def number(request: web.Request, name: str, default: int, *, low: int, high: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 17 and low <= int(text) <= high):
        raise InvalidError(f"{name} must be a number from {low} to {high}")
    return int(text)


def page(request: web.Request, found: Sequence[T]) -> Sequence[T]:
    """The part of a list that `limit` and `offset` ask for; without them all of it."""
    offset = number(request, "offset", 0, low=0, high=2**53)
    limit = number(request, "limit", len(found) or 1, low=1, high=MAX_LIMIT)
    return found[offset : offset + limit]


def flag(request: web.Request, name: str) -> bool | None:
    text = request.query.get(name)
    if text is None:
        return None
    if text not in ("true", "false"):
        raise InvalidError(f"{name} must be true or false")
    return text == "true"
