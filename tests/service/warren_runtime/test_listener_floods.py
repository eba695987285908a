"""Connections that never send a request: ended in time, counted, bounded, and felt by nobody else."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from support.certificates import Pair
from support.eventually import eventually
from warren_runtime.gate import Gate, Limits
from warren_runtime.http_head import HeadFault
from warren_runtime.listener import Listener, RequestHead
from warren_runtime.opening import ServerTls
from warren_runtime.tls import TlsFault, client_context, server_context

REQUEST = b"GET /page HTTP/1.1\r\nHost: here\r\n\r\n"
CLIENT_HELLO_BEGINNING = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


async def page(_: web.Request) -> web.Response:
    return web.Response(text="still here")


async def hold(_head: RequestHead, transport: asyncio.Transport, _rest: bytes) -> None:
    transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    await asyncio.Event().wait()


@asynccontextmanager
async def listening(
    pair: Pair | None, limits: Limits | None = None, *, open_seconds: float = 60.0
) -> AsyncIterator[Listener]:
    app = web.Application()
    app.router.add_get("/page", page)
    tls = ServerTls(server_context(pair.certificate, pair.key)) if pair else None
    listener = Listener(
        app,
        {("/hold", "hold"): hold},
        tls=tls,
        limits=limits,
        open_seconds=open_seconds,
        head_seconds=open_seconds,
    )
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.close()


@asynccontextmanager
async def half_open(
    listener: Listener, count: int, source: str = "127.0.0.1"
) -> AsyncIterator[list[socket.socket]]:
    """Connections that say nothing yet; the listener has taken them."""
    made: list[socket.socket] = []
    try:
        before = listener.accepted
        while len(made) < count:
            # A queue of the kernel that is full would make them wait for seconds.
            for _ in range(min(500, count - len(made))):
                sock = socket.socket()
                sock.setblocking(False)
                sock.bind((source, 0))
                made.append(sock)
                sock.connect_ex(("127.0.0.1", listener.port))
            await eventually(lambda: listener.accepted == before + len(made), 60)
        yield made
    finally:
        for sock in made:
            sock.close()


async def feed(sock: socket.socket, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(sock, data)
    except OSError:
        pass


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def ask(port: int, pair: Pair) -> bytes:
    tls = client_context(pair.certificate)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="localhost")
    writer.write(REQUEST)
    answer = await reader.readuntil(b"still here")
    writer.close()
    return answer


async def test_thousands_of_unfinished_handshakes_are_bounded_and_disturb_nobody(pair: Pair) -> None:
    limits = Limits(waiting=2500, waiting_per_source=2000, exempt=())
    async with listening(pair, limits) as listener:
        before = open_files()
        tls = client_context(pair.certificate)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=tls, server_hostname="localhost"
        )
        writer.write(REQUEST)
        await reader.readuntil(b"still here")
        async with half_open(listener, 2200, "127.0.1.2") as one, half_open(listener, 1000, "127.0.1.3"):
            # One address has its share, all together theirs.
            assert listener.faults[HeadFault.TOO_MANY_OF_SOURCE] == 200
            assert listener.faults[HeadFault.TOO_MANY_CONNECTIONS] == 500
            assert listener.connections == 2500 + 1
            writer.write(REQUEST)
            await reader.readuntil(b"still here")
            for sock in one[:50]:
                await feed(sock, CLIENT_HELLO_BEGINNING)
        await eventually(lambda: listener.connections == 1, 60)
        assert listener.tls_faults.total() == 2500
        assert set(listener.tls_faults) <= {TlsFault.CLOSED, TlsFault.OTHER}
        # A new client finds room again.
        await ask(listener.port, pair)
        writer.close()
        await eventually(lambda: listener.connections == 0)
        # The event loop has a few of its own.
        await eventually(lambda: open_files() < before + 10)


@pytest.mark.parametrize("data", [b"", CLIENT_HELLO_BEGINNING])
async def test_a_handshake_that_never_finishes_ends_in_time(pair: Pair, data: bytes) -> None:
    async with listening(pair, open_seconds=0.2) as listener, half_open(listener, 20) as made:
        for sock in made:
            await feed(sock, data)
        await eventually(lambda: listener.tls_faults == {TlsFault.TIMEOUT: len(made)})
        assert listener.connections == 0


async def test_a_request_that_never_comes_after_the_handshake_ends_in_time(pair: Pair) -> None:
    async with listening(pair, open_seconds=0.3) as listener:
        tls = client_context(pair.certificate)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=tls, server_hostname="localhost"
        )
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
        assert listener.faults == {HeadFault.TIMEOUT: 1}
        writer.close()


async def test_what_is_not_tls_or_too_old_is_counted_by_reason(pair: Pair) -> None:
    async with listening(pair) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await reader.read()
        writer.close()
        await eventually(lambda: listener.tls_faults == {TlsFault.NOT_TLS: 1})

        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", listener.port, ssl=old)
        await eventually(lambda: listener.tls_faults[TlsFault.VERSION] == 1)

        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection("127.0.0.1", listener.port, ssl=ssl.create_default_context())
        # A client's event loop may close before its alert is out.
        refused = (TlsFault.REFUSED_BY_CLIENT, TlsFault.CLOSED)
        await eventually(lambda: sum(listener.tls_faults[fault] for fault in refused) == 1)
        await ask(listener.port, pair)


async def test_without_tls_whoever_is_too_many_is_told(pair: Pair) -> None:
    limits = Limits(waiting=50, waiting_per_source=2, exempt=())
    async with listening(None, limits) as listener, half_open(listener, 2):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        assert (await reader.read()).startswith(b"HTTP/1.1 429")
        assert listener.faults[HeadFault.TOO_MANY_OF_SOURCE] == 1
        writer.close()


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("203.0.113.1", "203.0.113.1", True),
        ("203.0.113.1", "203.0.113.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("127.0.0.1", "127.0.0.1", False),
        ("::1", "::1", False),
        ("", "", False),
    ],
)
def test_what_counts_as_one_source(first: str, second: str, is_one: bool) -> None:
    gate = Gate(Limits(waiting_per_source=1))
    assert gate.enter(first, 0) is None
    assert (gate.enter(second, 0) is HeadFault.TOO_MANY_OF_SOURCE) is is_one
    gate.leave(first)
    assert gate.enter(first, 0) is None


def test_all_together_have_a_bound() -> None:
    gate = Gate(Limits(connections=10, waiting=2))
    assert gate.enter("203.0.113.1", 10) is HeadFault.TOO_MANY_CONNECTIONS
    assert gate.enter("203.0.113.1", 9) is None
    assert gate.enter("203.0.113.2", 9) is None
    assert gate.enter("127.0.0.1", 9) is HeadFault.TOO_MANY_CONNECTIONS
