"""Ways in: WebSocket, plain HTTP behind a proxy, and what a proxy may say."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import Any

import aiohttp
import pytest

from support.control_client import VERSION, ControlClient, Identity, fetch_key
from warren_runtime.tls import client_context
from warren_wire.control.session import UPGRADE, ClientSession

from .conftest import BOOTSTRAP, Running, StartServer


class BrowserClient(ControlClient):
    """The same client over a WebSocket."""

    method = "GET"

    async def connect(self) -> None:
        server = await fetch_key(self.port, self._tls)
        self._session = ClientSession(
            machine=self.identity.machine,
            server=server,
            ephemeral_seed=os.urandom(32),
            version=VERSION,
            host="control",
        )
        head = self._session.data_to_send().decode()
        handshake = next(
            line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("X-Tailscale-Handshake")
        )
        self._connected = False
        self._http = aiohttp.ClientSession()
        self.socket = await self._http.ws_connect(
            f"https://127.0.0.1:{self.port}/ts2021",
            params={"X-Tailscale-Handshake": handshake},
            protocols=(UPGRADE,),
            compress=15,
            ssl=self._tls or False,
            method=self.method,
        )
        self._session.receive_data(
            f"HTTP/1.1 101 x\r\nUpgrade: {UPGRADE}\r\nConnection: upgrade\r\n\r\n".encode()
        )
        self._task = asyncio.create_task(self._receive(), name="browser")
        await self.until(lambda: self._connected or self.disconnected)

    async def close(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.socket.close()
        await self._http.close()

    def _flush(self) -> None:
        data = self._session.data_to_send()
        if data:
            self._sending = asyncio.create_task(self.socket.send_bytes(data))

    async def _receive(self) -> None:
        async for message in self.socket:
            self._session.receive_data(message.data)
            for event in self._session.events():
                self._on(event)
            self._flush()
            self._changed.set()
        self.disconnected = True
        self._changed.set()


class PostingBrowserClient(BrowserClient):
    method = "POST"


@pytest.mark.parametrize("kind", [BrowserClient, PostingBrowserClient])
async def test_a_client_joins_and_follows_over_a_web_socket(
    server: Running, kind: type[BrowserClient]
) -> None:
    web = await server.member("web")
    tls = client_context(server.pair.certificate)
    async with kind(Identity("browser"), server.port, tls) as browser:
        # Compression was offered; stock clients in browsers cannot use it.
        assert browser.socket.compress == 0
        assert (await browser.register(BOOTSTRAP)).error == ""
        assert await browser.poll() == 200
        await web.until(lambda: web.peer("browser") is not None)
        await server.api("PATCH", "/api/v1/nodes/1", {"name": "renamed"})
        await browser.until(lambda: browser.peer("renamed") is not None)
        await server.stop()
        await browser.until(lambda: browser.disconnected)


@pytest.mark.parametrize(
    ("protocol", "handshake"),
    [("", base64.b64encode(bytes(101)).decode()), (UPGRADE, ""), (UPGRADE, "!!"), (UPGRADE, "AAAA")],
)
async def test_a_bad_web_socket_is_refused(server: Running, protocol: str, handshake: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(
                f"https://127.0.0.1:{server.port}/ts2021",
                params={"X-Tailscale-Handshake": handshake},
                protocols=(protocol,) if protocol else (),
                ssl=client_context(server.pair.certificate),
            )
    assert caught.value.status == 400


async def _get(server: Running, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"https://127.0.0.1:{server.port}{path}", ssl=client_context(server.pair.certificate)
        ) as response,
    ):
        return response.status, await response.text()


async def test_a_request_without_upgrade_says_what_is_missing(server: Running) -> None:
    status, text = await _get(server, "/ts2021")
    assert status == 400
    assert "proxy" in text


async def test_robots_are_sent_away(server: Running) -> None:
    assert await _get(server, "/robots.txt") == (200, "User-agent: *\nDisallow: /\n")


async def test_bootstrap_dns_answers_for_the_mesh_alone(start_server: StartServer) -> None:
    server = await start_server(server_url="https://localhost:8443")
    status, text = await _get(server, "/bootstrap-dns")
    assert status == 200
    assert '"localhost": [' in text
    assert "127.0.0.1" in text
    assert await _get(server, "/bootstrap-dns?q=example.net") == (200, "{}")


async def test_plain_http_behind_a_proxy_serves_clients(start_server: StartServer) -> None:
    server = await start_server(tls=None)
    async with ControlClient(Identity("web"), server.port, None) as web:
        assert (await web.register(BOOTSTRAP)).error == ""
        assert await web.poll() == 200


@pytest.mark.parametrize(
    ("trusted", "header", "source"),
    [
        ([], "198.51.100.7", "127.0.0.1"),
        (["127.0.0.0/8"], "198.51.100.7", "198.51.100.7"),
        (["127.0.0.0/8"], "203.0.113.1, 198.51.100.7", "198.51.100.7"),
        (["127.0.0.0/8", "198.51.100.0/24"], "203.0.113.1, 198.51.100.7", "203.0.113.1"),
        (["127.0.0.0/8"], "nonsense", "127.0.0.1"),
    ],
)
async def test_only_configured_proxies_say_where_a_client_is(
    start_server: StartServer, trusted: list[str], header: str, source: str
) -> None:
    server = await start_server(trusted_proxies=trusted)
    web = ProxiedClient(Identity("web"), server.port, client_context(server.pair.certificate))
    web.forwarded_for = header
    await web.connect()
    server.clients.append(web)
    await web.register()
    _, document = await server.api("GET", "/api/v1/pending")
    assert [pending["source"] for pending in document["pending"]] == [source]


class ProxiedClient(ControlClient):
    """A client whose upgrade passes a proxy that adds a header."""

    forwarded_for = ""

    def upgrade(self) -> bytes:
        head: Any = super().upgrade()
        return bytes(head[:-2] + f"X-Forwarded-For: {self.forwarded_for}\r\n\r\n".encode())
