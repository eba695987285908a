"""A proxy in front: whose word counts, in the PROXY protocol and in headers, up to what handlers see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from support.certificates import Pair
from support.eventually import eventually
from warren_runtime.gate import Limits
from warren_runtime.http_head import HeadFault
from warren_runtime.listener import Listener, RequestHead
from warren_runtime.opening import ServerTls
from warren_runtime.proxies import ForwardedHeader, Proxies, read_proxies
from warren_runtime.settings import Problems, Section, SettingsError
from warren_runtime.tls import TlsFault, client_context, server_context
from warren_wire import proxy_protocol
from warren_wire.addresses import AddrPort

CLIENT, SERVER = AddrPort.parse("203.0.113.7:54321"), AddrPort.parse("192.0.2.1:443")
V1, V2 = (
    proxy_protocol.encode_v1(CLIENT, SERVER),
    proxy_protocol.encode_v2(CLIENT, SERVER, b"\x04\x00\x01\x00"),
)
LOOPBACK = ["127.0.0.0/8"]


async def page(request: web.Request) -> web.Response:
    return web.Response(text=f"page for {request.remote}\n")


async def upgrade(head: RequestHead, transport: asyncio.Transport, _rest: bytes) -> None:
    transport.write(f"upgrade for {head.peer[0]}\n".encode())


def proxies(*networks: str, header: str = "x-forwarded-for", proxy_protocol: bool = False) -> Proxies:
    problems = Problems()
    data = {"trusted_proxies": list(networks), "forwarded_header": header, "proxy_protocol": proxy_protocol}
    found = read_proxies(Section(data, "", problems))
    problems.raise_if_any()
    return found


@asynccontextmanager
async def listening(
    settings: Proxies, pair: Pair | None = None, *, limits: Limits | None = None, seconds: float = 60.0
) -> AsyncIterator[Listener]:
    app = web.Application()
    app.router.add_get("/page", page)
    tls = ServerTls(server_context(pair.certificate, pair.key)) if pair else None
    listener = Listener(
        app, {("/up", "it"): upgrade}, tls=tls, proxies=settings, limits=limits, open_seconds=seconds
    )
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
    finally:
        await listener.close()


def request(path: str, headers: str = "") -> bytes:
    more = "Connection: upgrade\r\nUpgrade: it\r\n" if path == "/up" else ""
    return f"GET {path} HTTP/1.1\r\nHost: here\r\n{more}{headers}\r\n".encode()


async def told(port: int, *parts: bytes, pair: Pair | None = None) -> str:
    """What the answer says the client is; the first part goes before TLS where there is any."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts[:-1]:
            writer.write(part)
            await writer.drain()
        if pair is not None:
            await writer.start_tls(client_context(pair.certificate), server_hostname="localhost")
        writer.write(parts[-1])
        while b" for " not in (line := await reader.readuntil(b"\n")):
            pass
        return line.partition(b" for ")[2].decode().strip()
    finally:
        writer.close()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("path", ["/page", "/up"])
@pytest.mark.parametrize("header", [V1, V2])
async def test_a_trusted_proxy_says_whose_connection_it_is(
    pair: Pair, header: bytes, path: str, secure: bool
) -> None:
    settings = proxies(*LOOPBACK, proxy_protocol=True)
    async with listening(settings, pair if secure else None) as listener:
        tls = pair if secure else None
        assert await told(listener.port, header, request(path), pair=tls) == "203.0.113.7"
        if not secure:
            # In one segment with the request, and byte by byte.
            assert await told(listener.port, header + request(path)) == "203.0.113.7"
            single = [bytes((byte,)) for byte in header]
            assert await told(listener.port, *single, request(path)) == "203.0.113.7"
        local = proxy_protocol.encode_local_v2()
        assert await told(listener.port, local, request(path), pair=tls) == "127.0.0.1"
        # Behind the connection's proxy, another one that writes headers would have to be trusted as well.
        forged = request(path, "X-Forwarded-For: 198.51.100.1\r\n")
        assert await told(listener.port, header, forged, pair=tls) == "203.0.113.7"


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("header", [V1, V2, V1[:20]])
async def test_from_anybody_else_it_is_refused_and_counted(pair: Pair, header: bytes, secure: bool) -> None:
    settings = proxies("192.0.2.0/24", proxy_protocol=True)
    async with listening(settings, pair if secure else None) as listener:
        tls = pair if secure else None
        assert await told(listener.port, request("/up"), pair=tls) == "127.0.0.1"
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(header)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        assert listener.faults == {HeadFault.PROXY_UNTRUSTED: 1}
        assert listener.connections == 0


async def test_without_the_setting_nobody_s_header_counts(pair: Pair) -> None:
    for data in (V1, V2):
        async with listening(proxies(*LOOPBACK)) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(data + request("/up"))
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
            writer.close()
            assert listener.faults == {HeadFault.MALFORMED: 1}
        async with listening(proxies(*LOOPBACK), pair) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(data)
            await reader.read()
            writer.close()
            await eventually(lambda: listener.tls_faults[TlsFault.NOT_TLS] == 1)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (request("/up"), HeadFault.PROXY_MALFORMED),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40), HeadFault.PROXY_MALFORMED),
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n" + request("/up"), HeadFault.PROXY_MALFORMED),
        (b"", HeadFault.TIMEOUT),
        (V1[:-1], HeadFault.TIMEOUT),
        (V2[:-1], HeadFault.TIMEOUT),
    ],
)
async def test_a_trusted_proxy_without_a_whole_header_is_refused(
    pair: Pair, data: bytes, fault: HeadFault
) -> None:
    settings = proxies(*LOOPBACK, proxy_protocol=True)
    async with listening(settings, pair, seconds=0.3 if fault is HeadFault.TIMEOUT else 60.0) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(data)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        assert listener.faults == {fault: 1}


async def test_a_proxy_that_hangs_up_is_no_fault_of_anybody_else(pair: Pair) -> None:
    async with listening(proxies(*LOOPBACK, proxy_protocol=True), pair) as listener:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(V2[:10])
        await writer.drain()
        writer.close()
        await eventually(lambda: listener.faults == {HeadFault.CLOSED: 1})
        assert await told(listener.port, V2, request("/up"), pair=pair) == "203.0.113.7"


async def test_the_limit_of_one_source_counts_the_client_and_not_its_proxy() -> None:
    settings = proxies(*LOOPBACK, proxy_protocol=True)
    limits = Limits(waiting_per_source=2, exempt=())
    async with listening(settings, limits=limits) as listener:
        held = []
        for number in range(1, 6):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            held.append(writer)
            client = AddrPort.parse(f"203.0.113.{number}:1")
            writer.write(proxy_protocol.encode_v1(client, SERVER))
        await eventually(lambda: listener.connections == 5)
        for _ in range(2):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            held.append(writer)
            writer.write(V1)
        await eventually(lambda: listener.faults == {} and listener.connections == 7)
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        held.append(writer)
        writer.write(V1)
        await eventually(lambda: listener.faults == {HeadFault.TOO_MANY_OF_SOURCE: 1})
        for writer in held:
            writer.close()
        await eventually(lambda: listener.connections == 0)


@pytest.mark.parametrize("path", ["/page", "/up"])
@pytest.mark.parametrize(
    ("trusted", "header", "sent", "client"),
    [
        ([], "x-forwarded-for", "X-Forwarded-For: 203.0.113.7", "127.0.0.1"),
        (LOOPBACK, "x-forwarded-for", "X-Forwarded-For: 203.0.113.7", "203.0.113.7"),
        (LOOPBACK, "x-forwarded-for", "X-Forwarded-For: 198.51.100.1, 203.0.113.7", "203.0.113.7"),
        (LOOPBACK, "x-forwarded-for", "X-Forwarded-For: 203.0.113.7, 127.0.0.9", "203.0.113.7"),
        (LOOPBACK, "x-forwarded-for", "X-Forwarded-For: 203.0.113.7, nonsense", "127.0.0.1"),
        (LOOPBACK, "x-forwarded-for", "Forwarded: for=203.0.113.7", "127.0.0.1"),
        (LOOPBACK, "forwarded", 'Forwarded: for="[2001:db8::7]:80";proto=https', "2001:db8::7"),
        (LOOPBACK, "forwarded", "X-Forwarded-For: 203.0.113.7", "127.0.0.1"),
        (LOOPBACK, "none", "X-Forwarded-For: 203.0.113.7\r\nForwarded: for=203.0.113.7", "127.0.0.1"),
    ],
)
async def test_only_the_header_that_a_trusted_proxy_writes_counts(
    path: str, trusted: list[str], header: str, sent: str, client: str
) -> None:
    async with listening(proxies(*trusted, header=header)) as listener:
        assert await told(listener.port, request(path, f"{sent}\r\n")) == client


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(SettingsError, match="trusted_proxies"):
        proxies("10.0.0.1/8")
    with pytest.raises(SettingsError, match="forwarded_header"):
        proxies(header="via")
    with pytest.raises(SettingsError, match="needs trusted_proxies"):
        proxies(proxy_protocol=True)
    assert proxies("10.0.0.0/8").header is ForwardedHeader.X_FORWARDED_FOR
