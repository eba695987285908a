"""The head of one HTTP/1.x request, read from a growing buffer. No I/O, no clock.

The listener decides from it who gets the connection: an upgrade handler or the web application.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_HEAD_BYTES: Final = 16 * 1024
"""The largest head of a stock client is below 2 KiB."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(rb"[\x21-\x7e]+")
_VERSION: Final = re.compile(rb"HTTP/1\.[01]")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_END: Final = b"\r\n\r\n"


class HeadFault(enum.Enum):
    """Why a connection ended before its first request head was complete."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    TIMEOUT = "timeout"
    CLOSED = "closed"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_OF_SOURCE = "too_many_of_source"
    PROXY_MALFORMED = "proxy_malformed"
    PROXY_UNTRUSTED = "proxy_untrusted"


class HeadError(Exception):
    """The bytes are no request head that we answer."""

    def __init__(self, fault: HeadFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request line and its fields; names in lower case, repeated fields joined with a comma.

    `peer` is the client's address, also where a trusted proxy stands in between.
    """

    method: str
    target: str
    path: str
    headers: Mapping[str, str]
    peer: tuple[str, int]
    raw: bytes

    @property
    def upgrade(self) -> str:
        """The protocol asked for, in lower case; empty if none. Counts only with `Connection: upgrade`."""
        tokens = {token.strip().lower() for token in self.headers.get("connection", "").split(",")}
        return self.headers.get("upgrade", "").strip().lower() if "upgrade" in tokens else ""


def split_head(buffer: bytes | bytearray) -> int | None:
    """Length of the complete head at the start of `buffer`, or None while it is incomplete (HeadError)."""
    end = buffer.find(_END, 0, MAX_HEAD_BYTES)
    if end >= 0:
        return end + len(_END)
    if len(buffer) >= MAX_HEAD_BYTES:
        raise HeadError(HeadFault.TOO_LARGE)
    # Other protocols (TLS on a plain port, SSH) are told at once instead of after the time limit.
    if buffer and not _TOKEN.match(buffer):
        raise HeadError(HeadFault.MALFORMED)
    return None


def parse_head(raw: bytes, peer: tuple[str, int]) -> RequestHead:
    """Parse a complete head, end mark included (HeadError)."""
    lines = raw[: -len(_END)].split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3:
        raise HeadError(HeadFault.MALFORMED)
    method, target, version = parts
    if not (_TOKEN.fullmatch(method) and _TARGET.fullmatch(target) and _VERSION.fullmatch(version)):
        raise HeadError(HeadFault.MALFORMED)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise HeadError(HeadFault.MALFORMED)
        key, text = name.decode().lower(), value.strip(b" \t").decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    text_target = target.decode()
    return RequestHead(method.decode(), text_target, _path_of(text_target), headers, peer, raw)


def _path_of(target: str) -> str:
    path = target.partition("?")[0]
    if path.startswith("/"):
        return path
    # Absolute form, as sent to proxies.
    _, _, after_scheme = path.partition("://")
    return "/" + after_scheme.partition("/")[2]
