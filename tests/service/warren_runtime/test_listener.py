"""The listener: pages and upgrades on one port, with and without TLS, and input that is neither."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import aiohttp
import pytest
from aiohttp import web

from support.certificates import Pair
from support.eventually import eventually
from warren_runtime.gate import Limits
from warren_runtime.listener import HeadFault, Listener, RequestHead, adopt
from warren_runtime.opening import ServerTls
from warren_runtime.tls import client_context, server_context


class Echo(asyncio.Protocol):
    """Sends everything back in upper case."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


async def echo(head: RequestHead, transport: asyncio.Transport, leftover: bytes) -> None:
    transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    protocol = Echo()
    adopt(transport, protocol, leftover)
    await protocol.lost


async def broken(head: RequestHead, transport: asyncio.Transport, leftover: bytes) -> None:
    raise RuntimeError("a fault of one handler")


async def page(request: web.Request) -> web.Response:
    body = await request.read()
    return web.Response(text=f"{request.method} {request.path} {len(body)}")


@asynccontextmanager
async def listening(
    context: ssl.SSLContext | None = None, *, head_seconds: float = 10.0, max_waiting: int = 100
) -> AsyncIterator[Listener]:
    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{tail:.*}", page)
    listener = Listener(
        app,
        {("/echo", "echo"): echo, ("/any", ""): echo, ("/broken", "echo"): broken},
        tls=ServerTls(context) if context else None,
        head_seconds=head_seconds,
        limits=Limits(waiting=max_waiting),
    )
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.close()


@asynccontextmanager
async def connected(
    port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass


async def talk(port: int, data: bytes) -> bytes:
    async with connected(port) as (reader, writer):
        writer.write(data)
        return await reader.read()


UPGRADE = b"GET %s HTTP/1.1\r\nHost: relay\r\nConnection: keep-alive, Upgrade\r\nUpgrade: Echo\r\n\r\n"


@pytest.mark.parametrize("secure", [False, True])
async def test_pages_and_upgrades_share_one_port(pair: Pair, secure: bool) -> None:
    server = server_context(pair.certificate, pair.key) if secure else None
    client = client_context(pair.certificate) if secure else None
    async with listening(server) as listener:
        url = f"{'https' if secure else 'http'}://127.0.0.1:{listener.port}"
        async with aiohttp.ClientSession() as session:
            for size in (0, 10, 500_000):
                async with session.post(f"{url}/page", data=bytes(size), ssl=client or True) as response:
                    assert await response.text() == f"POST /page {size}"
        for path in (b"/echo", b"/any"):
            async with connected(listener.port, client) as (reader, writer):
                writer.write(UPGRADE % path + b"first ")
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
                assert await reader.readexactly(6) == b"FIRST "
                writer.write(b"second")
                assert await reader.readexactly(6) == b"SECOND"


async def test_a_head_may_come_byte_by_byte() -> None:
    async with listening() as listener, connected(listener.port) as (reader, writer):
        for byte in b"\r\n" + UPGRADE % b"/echo" + b"hi":
            writer.write(bytes((byte,)))
            await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"HI"


async def test_an_upgrade_nobody_serves_is_a_page() -> None:
    async with listening() as listener:
        request = UPGRADE.replace(b"keep-alive, Upgrade", b"close") % b"/other"
        assert (await talk(listener.port, request)).endswith(b"GET /other 0")


MALFORMED = [
    (b"\x16\x03\x01\x02\x00\x01\x00", HeadFault.MALFORMED, b"400"),
    (b"GET\r\n\r\n", HeadFault.MALFORMED, b"400"),
    (b"GET / HTTP/2.0\r\n\r\n", HeadFault.MALFORMED, b"400"),
    (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", HeadFault.MALFORMED, b"400"),
    (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", HeadFault.MALFORMED, b"400"),
    (b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n", HeadFault.MALFORMED, b"400"),
    (b"GET / HTTP/1.1\r\nX: " + b"a" * 17_000, HeadFault.TOO_LARGE, b"431"),
]


@pytest.mark.parametrize(("data", "fault", "status"), MALFORMED)
async def test_a_bad_head_is_answered_counted_and_closed(
    data: bytes, fault: HeadFault, status: bytes
) -> None:
    async with listening() as listener:
        assert (await talk(listener.port, data)).startswith(b"HTTP/1.1 " + status)
        assert listener.faults == {fault: 1}
        assert (await talk(listener.port, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"GET / 0")


async def test_a_silent_connection_is_closed() -> None:
    async with listening(head_seconds=0.05) as listener:
        assert (await talk(listener.port, b"GET / HT")).startswith(b"HTTP/1.1 408")
        assert listener.faults == {HeadFault.TIMEOUT: 1}


async def test_silent_connections_are_limited() -> None:
    async with listening(max_waiting=1) as listener:
        async with connected(listener.port):
            await eventually(lambda: listener.accepted == 1)
            assert (await talk(listener.port, b"")).startswith(b"HTTP/1.1 503")
            assert listener.faults == {HeadFault.TOO_MANY_CONNECTIONS: 1}
        await eventually(lambda: listener.faults[HeadFault.CLOSED] == 1)
        assert (await talk(listener.port, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"GET / 0")


async def test_a_handler_that_fails_ends_its_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as listener:
        assert await talk(listener.port, UPGRADE % b"/broken") == b""
        assert "connection handler failed" in caplog.text
        assert (await talk(listener.port, b"GET / HTTP/1.0\r\n\r\n")).endswith(b"GET / 0")


async def test_closing_ends_every_connection() -> None:
    async with (
        listening() as listener,
        connected(listener.port) as (upgraded, writer),
        connected(listener.port) as (idle, _),
        aiohttp.ClientSession() as session,
    ):
        writer.write(UPGRADE % b"/echo")
        await upgraded.readuntil(b"\r\n\r\n")
        url = f"http://127.0.0.1:{listener.port}/"
        async with session.get(url) as response:
            assert response.status == 200
        await eventually(lambda: listener.connections == 3)
        await listener.close()
        assert await upgraded.read() == b""
        assert await idle.read() == b""
        with pytest.raises(aiohttp.ClientError):
            await session.get(url)
