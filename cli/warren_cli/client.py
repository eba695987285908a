"""One admin API of a control server, as a client. Knows HTTP; knows nothing of tables or Kubernetes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

TIMEOUT_SECONDS = 20.0
"""A healthy server answers in milliseconds; a person should not wait longer to hear that it is not."""


UNIX = "unix:"
"""Begins the address of a server on this machine, reached by its socket."""


class ApiError(Exception):
    """The server could not be asked, or refused; the text is meant for the person at the terminal."""

    def __init__(
        self, text: str, status: int | None = None, document: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        """None where there was no answer."""
        self.document = document or {}
        """The problem document (RFC 9457) with whatever it has beside its text."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the API is and what opens it. `ca_pem` None means the system's roots."""

    url: str
    token: str
    ca_pem: str | None = None

    def __repr__(self) -> str:
        return f"Target(url={self.url!r})"


def call(
    target: Target,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Send one request to `/api/v1` + `path` and return the decoded JSON (None where there is no body).

    Raises `ApiError` with the server's own problem text where it sent one (RFC 9457).
    """
    return asyncio.run(_call(target, method, path, body, headers or {}))


async def _call(
    target: Target, method: str, path: str, body: Mapping[str, Any] | None, more: Mapping[str, str]
) -> Any:
    context = ssl.create_default_context(cadata=target.ca_pem)
    socket_file = target.url.removeprefix(UNIX)
    connector = aiohttp.UnixConnector(socket_file) if socket_file != target.url else aiohttp.TCPConnector()
    base = target.url.rstrip("/") if socket_file == target.url else "http://localhost"
    headers = {**more, "Authorization": f"Bearer {target.token}"} if target.token else dict(more)
    limit = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=limit) as session,
            session.request(
                method, base + "/api/v1" + path, json=body, ssl=context, headers=headers
            ) as response,
        ):
            return await _answer(response)
    except TimeoutError as error:
        raise ApiError(f"{target.url} did not answer within {TIMEOUT_SECONDS:.0f} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ApiError(f"cannot reach {target.url}: {error}") from error


async def _answer(response: aiohttp.ClientResponse) -> Any:
    if response.status == 204:
        return None
    if response.content_type not in ("application/json", "application/problem+json"):
        raise ApiError(
            f"{response.url} answered {response.status} without JSON: is this a Warren control server?"
        )
    document = await response.json(content_type=None)
    if response.ok:
        return document
    if response.status == 401:
        raise ApiError(
            "the control server refused the token: check --token-file or the Secret it came from", 401
        )
    if not isinstance(document, dict):
        document = {}
    detail = document.get("detail") or document.get("title") or "the control server refused the request"
    raise ApiError(f"{detail} (status {response.status})", response.status, document)
