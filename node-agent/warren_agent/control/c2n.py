"""Requests of the control server into this node (c2n): HTTP in bytes in, HTTP in bytes out. Pure.

Nothing that is asked changes the node or tells more than the server knows.
"""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import Final, NamedTuple

MAX_REQUEST_BYTES: Final = 64 * 1024
_VERSIONS: Final = frozenset({b"HTTP/1.0", b"HTTP/1.1"})


class Outcome(Enum):
    """What became of a request; the label of its metric."""

    ANSWERED = "answered"
    UNKNOWN = "unknown"
    MALFORMED = "malformed"


class Answer(NamedTuple):
    outcome: Outcome
    response: bytes
    """A whole HTTP/1.1 response, as the server expects it for a body."""


class _Request(NamedTuple):
    path: bytes
    body: bytes


def answer(payload: bytes) -> Answer:
    """Stock servers send `/echo`, which gives the body back; other paths are refused as stock nodes do."""
    request = _parsed(payload)
    if request is None:
        return Answer(Outcome.MALFORMED, _response(HTTPStatus.BAD_REQUEST, b"not an HTTP request"))
    if request.path == b"/echo":
        return Answer(Outcome.ANSWERED, _response(HTTPStatus.OK, request.body))
    return Answer(Outcome.UNKNOWN, _response(HTTPStatus.BAD_REQUEST, b"unknown c2n path"))


def _parsed(payload: bytes) -> _Request | None:
    if len(payload) > MAX_REQUEST_BYTES:
        return None
    head, end, body = payload.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    parts = first.split(b" ")
    if not end or len(parts) != 3 or parts[2] not in _VERSIONS:
        return None
    length = 0
    for line in lines:
        name, colon, value = line.partition(b":")
        value = value.strip()
        if not colon or name.lower() == b"transfer-encoding":
            return None
        if name.lower() == b"content-length":
            # As many digits as the largest request has: Python refuses to read very long ones.
            if not value.isdigit() or len(value) > len(str(MAX_REQUEST_BYTES)):
                return None
            length = int(value)
    if len(body) < length:
        return None
    return _Request(parts[1].partition(b"?")[0], body[:length])


def _response(status: HTTPStatus, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
