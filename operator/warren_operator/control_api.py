"""Client of a control server's admin API. Knows HTTP and TLS; knows nothing of Kubernetes.

The server is reached by its Service, whatever its URL resolves to here, and must show the certificate of the
URL's host: the connection goes to one name and is checked against another.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from warren_operator import machines
from warren_operator.errors import ControlApiError
from warren_operator.kinds import Manifest
from warren_operator.machines import ControlStatus, Machine, MachineList, PolicyInForce, RegionList
from warren_operator.policies import AUTHOR

T = TypeVar("T")

REQUEST_SECONDS: Final = 10.0
# The server sends a comment each 15 s; silence means that the connection is dead.
EVENT_SILENCE_SECONDS: Final = 40.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a control server is and how to know it."""

    base_url: str
    """By the Service."""
    server_hostname: str | None
    """What its certificate is for; nothing for plain HTTP."""
    trusted: str
    """PEM certificates beside the system's."""
    token: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        parts = (self.base_url, self.server_hostname or "", self.trusted, self.token)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class ControlApi:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._ssl = _context(endpoint)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def close(self) -> None:
        """For good: whoever still holds this client is refused, and nothing is left open."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def status(self) -> ControlStatus:
        return await self._read(ControlStatus, "GET", "/api/v1/status")

    async def machines(self) -> tuple[Machine, ...]:
        return (await self._read(MachineList, "GET", "/api/v1/nodes")).nodes

    async def change_machine(self, number: int, patch: Manifest) -> Machine:
        return await self._read(Machine, "PATCH", f"/api/v1/nodes/{number}", patch)

    async def delete_machine(self, number: int) -> None:
        await self._forget(f"/api/v1/nodes/{number}")

    async def policy(self) -> PolicyInForce:
        return await self._read(PolicyInForce, "GET", "/api/v1/policy")

    async def put_policy(self, text: str, version: int, *, tested: bool = True) -> PolicyInForce:
        """In place of `version`; the error carries what is wrong with the text."""
        body = {"text": text, "author": AUTHOR, "tests": "refuse" if tested else "warn"}
        return await self._read(PolicyInForce, "PUT", "/api/v1/policy", body, _if_match(version))

    async def delete_policy(self, version: int) -> None:
        await self._bytes("DELETE", "/api/v1/policy", None, _if_match(version))

    async def regions(self) -> list[Manifest]:
        """Relay regions in the shape clients know."""
        shown = await self._read(RegionList, "GET", "/api/v1/relays")
        return [dict(region) for region in shown.relays if isinstance(region.get("RegionID"), int)]

    async def put_region(self, region: Manifest) -> None:
        await self._bytes("PUT", f"/api/v1/relays/{region['RegionID']}", region)

    async def delete_region(self, number: int) -> None:
        await self._forget(f"/api/v1/relays/{number}")

    async def revisions(self) -> AsyncIterator[int]:
        """One for each burst of changes; ends with the connection."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=REQUEST_SECONDS, sock_read=EVENT_SILENCE_SECONDS
        )
        try:
            async with self._open().get(
                f"{self._endpoint.base_url}/api/v1/events", timeout=timeout, **self._tls()
            ) as answer:
                if answer.status != 200:
                    raise ControlApiError(
                        f"events: the control server answers {answer.status}", answer.status
                    )
                async for line in answer.content:
                    if line.startswith(b"data:"):
                        yield _revision(line[5:])
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise ControlApiError(f"events: {_reason(error)}") from error

    async def _read(
        self,
        kind: type[T],
        method: str,
        path: str,
        body: Manifest | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        value: T = machines.read(kind, await self._bytes(method, path, body, headers), f"{method} {path}")
        return value

    async def _forget(self, path: str) -> None:
        try:
            await self._bytes("DELETE", path)
        except ControlApiError as error:
            if error.status != 404:
                raise

    async def _bytes(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        what = f"{method} {path}"
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                async with self._open().request(
                    method, f"{self._endpoint.base_url}{path}", json=body, headers=headers, **self._tls()
                ) as answer:
                    data = await _bounded(answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ControlApiError(f"{what}: {_reason(error)}") from error
        if answer.status >= 400:
            raise ControlApiError(f"{what}: {_detail(data) or answer.status}", answer.status, data)
        return data

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise ControlApiError("the control server's address or token has changed meanwhile")
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._endpoint.token}"}
            self._session = aiohttp.ClientSession(headers=headers)
        return self._session

    def _tls(self) -> dict[str, Any]:
        if self._ssl is None:
            return {}
        return {"ssl": self._ssl, "server_hostname": self._endpoint.server_hostname}


def _context(endpoint: Endpoint) -> ssl.SSLContext | None:
    if endpoint.server_hostname is None:
        return None
    context = ssl.create_default_context()
    if endpoint.trusted:
        try:
            context.load_verify_locations(cadata=endpoint.trusted)
        except ssl.SSLError as error:
            raise ControlApiError("the certificates in the TLS secret cannot be read") from error
        # The server's own certificate is trusted as it is, whoever signed it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    parts = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise ControlApiError("the control server's answer is too large")
        parts.append(part)
    return b"".join(parts)


def _detail(data: bytes) -> str:
    """The reason in a problem document."""
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return ""
    detail = value.get("detail") if isinstance(value, dict) else None
    return detail[:500] if isinstance(detail, str) else ""


def _if_match(version: int) -> dict[str, str]:
    return {"If-Match": f'"{version}"'}


def _revision(text: bytes) -> int:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return 0
    revision = value.get("revision") if isinstance(value, dict) else None
    return revision if isinstance(revision, int) else 0


def _reason(error: BaseException) -> str:
    match error:
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate is not accepted: {error.certificate_error}"
        case aiohttp.ClientConnectorError():
            return f"cannot connect: {error.os_error.strerror or error.os_error}"
        case _:
            return str(error) or type(error).__name__
