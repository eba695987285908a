"""One port mapping by UPnP IGD: finds the router's description, asks for the mapping, gives it back.

Bounded in every direction: answers counted and short, one request at a time, no redirect followed, no host
but the router spoken to.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from warren_agent.paths import upnp_codec as codec
from warren_agent.paths.portmap import LIFETIME_SECONDS, Router, usable_address
from warren_agent.paths.upnp_codec import Service, SoapError, UpnpError
from warren_wire.addresses import AddrPort

SEARCH_SECONDS: Final = 2.5
MORE_ANSWERS_SECONDS: Final = 0.05
"""After the first answer: some routers announce several descriptions."""

MAX_ANSWERS: Final = 32
"""A home full of devices answers a search for everything; the rest is not read."""

MAX_DESCRIPTIONS: Final = 4
REQUEST_SECONDS: Final = 2.0
CONFLICT_TRIES: Final = 3
FOREVER_SECONDS: Final = 0
_SO_MARK: Final = 36


@dataclass(frozen=True, slots=True)
class UpnpMapping:
    """A mapping that the router gave. `lifetime` 0 has no end."""

    service: Service
    external: AddrPort
    lifetime: int


class UpnpClient:
    """Speaks to one router. Every method raises `UpnpError` for what the router does wrong."""

    def __init__(self, router: Router, *, mark: int) -> None:
        self.router = router
        self._mark = mark
        self.refused = 0
        """Answers that were not believed."""

    async def map(self, internal_port: int, hint: int) -> UpnpMapping | None:
        """Ask for a mapping of our port, best with `hint` outside; None if there is no UPnP router."""
        failure: UpnpError | None = None
        for url in await self._descriptions():
            try:
                for service in codec.services(await self._get(url), url, self.router.gateway):
                    try:
                        return await self._map_at(service, internal_port, hint)
                    except UpnpError as error:
                        failure = error
            except UpnpError as error:
                self.refused += 1
                failure = error
        if failure is not None:
            raise failure
        return None

    async def release(self, mapping: UpnpMapping) -> None:
        await self._call(
            mapping.service, "DeletePortMapping", codec.delete_arguments(mapping.external.port), ""
        )

    async def _map_at(self, service: Service, internal_port: int, hint: int) -> UpnpMapping:
        text = await self._call(service, "GetExternalIPAddress", {}, "NewExternalIPAddress")
        try:
            address = IPv4Address(text)
        except ValueError as error:
            raise UpnpError("the router tells no external address") from error
        if not usable_address(address):
            raise UpnpError(f"the router's external address is {address}")
        lifetime, port = LIFETIME_SECONDS, hint
        for attempt in range(CONFLICT_TRIES):
            try:
                given = await self._add(service, internal_port, port, lifetime)
            except SoapError as fault:
                if fault.code in codec.ONLY_PERMANENT and lifetime:
                    lifetime = FOREVER_SECONDS
                elif fault.code in codec.CONFLICT and attempt + 1 < CONFLICT_TRIES:
                    port = random.randrange(1024, 65536)  # noqa: S311 - any free port will do
                else:
                    raise
            else:
                return UpnpMapping(service, AddrPort(address, given), lifetime)
        raise UpnpError("the router gave no mapping")

    async def _add(self, service: Service, internal_port: int, port: int, lifetime: int) -> int:
        arguments = codec.add_arguments(internal_port, self.router.own, port, lifetime)
        if service.kind.endswith(":2"):
            text = await self._call(service, "AddAnyPortMapping", arguments, "NewReservedPort")
            if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
                raise UpnpError("the router tells no external port")
            return int(text)
        await self._call(service, "AddPortMapping", arguments, "")
        return port

    # The network

    async def _descriptions(self) -> list[str]:
        """Where the router's descriptions are, each once."""
        loop = asyncio.get_running_loop()
        sock = self._bound()
        transport, answers = await loop.create_datagram_endpoint(_Answers, sock=sock)
        urls: dict[str, None] = {}
        try:
            self._search(transport)
            deadline = loop.time() + SEARCH_SECONDS
            for _ in range(MAX_ANSWERS):
                async with asyncio.timeout_at(deadline):
                    data, source = await answers.received.get()
                if source != str(self.router.gateway):
                    continue
                try:
                    url = codec.location(data, self.router.gateway)
                except UpnpError:
                    self.refused += 1
                    continue
                if url is not None:
                    urls[url] = None
                    deadline = min(deadline, loop.time() + MORE_ANSWERS_SECONDS)
        except TimeoutError:
            pass
        finally:
            transport.close()
        return list(urls)[:MAX_DESCRIPTIONS]

    def _bound(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._mark)
            sock.bind((str(self.router.own), 0))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, self.router.own.packed)
        except OSError as error:
            sock.close()
            raise UpnpError(f"cannot search: {error.strerror}") from error
        return sock

    def _search(self, transport: asyncio.DatagramTransport) -> None:
        """The router alone first, which opens the host's own firewall for its answers."""
        gateway, group = self.router.gateway, codec.SSDP_GROUP
        for target, to in (
            ("ssdp:all", gateway),
            (codec.GATEWAY_DEVICE, gateway),
            (codec.GATEWAY_DEVICE, group),
        ):
            transport.sendto(codec.search(target, to), (str(to), codec.SSDP_PORT))

    async def _call(
        self, service: Service, action: str, arguments: Mapping[str, str | int], wanted: str
    ) -> str:
        body, header = codec.request(service, action, arguments)
        headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": header}
        status, answer = await self._request("POST", service.control_url, body, headers)
        return codec.answer(answer, status, wanted)

    async def _get(self, url: str) -> bytes:
        status, body = await self._request("GET", url, None, {})
        if status != 200:
            raise UpnpError(f"the router's description has status {status}")
        return body

    async def _request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        # Most hosts never come here, and the library takes a while to load.
        import aiohttp

        def make(info: tuple[Any, ...]) -> socket.socket:
            sock = socket.socket(info[0], info[1], info[2])
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._mark)
            return sock

        connector = aiohttp.TCPConnector(force_close=True, socket_factory=make)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
                session.request(
                    method, url, data=body, headers=dict(headers), allow_redirects=False
                ) as response,
            ):
                return response.status, await _at_most(response.content, codec.MAX_DOCUMENT_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise UpnpError(f"the router does not answer: {error or type(error).__name__}") from error


class _Answers(asyncio.DatagramProtocol):
    """The first answers to a search, each with the address it came from."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, str]] = asyncio.Queue(MAX_ANSWERS)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self.received.put_nowait((data[: codec.MAX_ANSWER_BYTES], addr[0]))


async def _at_most(content: Any, limit: int) -> bytes:
    """The whole body; raises `UpnpError` as soon as it is longer than `limit`."""
    body = bytearray()
    async for chunk in content.iter_chunked(16384):
        body += chunk
        if len(body) > limit:
            raise UpnpError("the router's document is too long")
    return bytes(body)
