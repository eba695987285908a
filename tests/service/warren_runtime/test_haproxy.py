"""A real proxy in front: HAProxy passes TLS on with the PROXY protocol, or ends HTTP and writes headers."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from support.certificates import Pair
from support.eventually import eventually
from support.pebble import free_port
from warren_runtime.listener import Listener
from warren_runtime.opening import ServerTls
from warren_runtime.proxies import ForwardedHeader, Proxies
from warren_runtime.tls import server_context
from warren_wire.addresses import parse_prefix

CLIENT = "127.0.1.7"
CONFIGURATION = """
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend clients
    mode {mode}
    bind 127.0.0.1:{port}
    {front}
    default_backend service
backend service
    mode {mode}
    server one 127.0.0.1:{target} source 127.0.0.1 {back} check inter 100ms {check}
"""


async def page(request: web.Request) -> web.Response:
    return web.Response(text=f"for {request.remote}\n")


@asynccontextmanager
async def behind_haproxy(
    folder: Path, proxies: Proxies, tls: ServerTls | None, mode: str, front: str = "", back: str = ""
) -> AsyncIterator[tuple[Listener, int]]:
    """The service, and the port of the proxy before it."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("needs HAProxy (Debian: apt-get install haproxy)")
    app = web.Application()
    app.router.add_get("/page", page)
    listener = Listener(app, {}, tls=tls, proxies=proxies)
    await listener.start("127.0.0.1", 0)
    port, file = free_port(), folder / "haproxy.cfg"
    check = "check-ssl verify none" if tls else ""
    text = CONFIGURATION.format(
        mode=mode, port=port, front=front, back=back, target=listener.port, check=check
    )
    file.write_text(text)
    running = await asyncio.create_subprocess_exec(program, "-db", "-f", str(file))
    try:
        await eventually(lambda: is_open(port))
        yield listener, port
    finally:
        running.terminate()
        await running.wait()
        await listener.close()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def told(url: str) -> str:
    """What the service answers curl, which comes from an address of its own."""
    asking = await asyncio.create_subprocess_exec(
        "curl", "-sSk", "--interface", CLIENT, "--retry", "5", "--retry-connrefused", url, stdout=-1
    )
    output, _ = await asking.communicate()
    return output.decode()


TRUSTED = (parse_prefix("127.0.0.1"),)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
async def test_it_passes_connections_on_with_their_address(
    pair: Pair, tmp_path: Path, version: str, secure: bool
) -> None:
    tls = ServerTls(server_context(pair.certificate, pair.key)) if secure else None
    proxies = Proxies(TRUSTED, proxy_protocol=True)
    async with behind_haproxy(tmp_path, proxies, tls, "tcp", back=version) as (listener, port):
        url = f"{'https' if secure else 'http'}://127.0.0.1:{port}/page"
        assert await told(url) == f"for {CLIENT}\n"
        assert not any(fault.value.startswith("proxy") for fault in listener.faults)
        # Around the proxy: as itself.
        direct = url.replace(str(port), str(listener.port))
        assert await told(direct) == f"for {CLIENT}\n"


@pytest.mark.parametrize(
    ("header", "front"),
    [
        (ForwardedHeader.X_FORWARDED_FOR, "option forwardfor"),
        (ForwardedHeader.FORWARDED, "http-request add-header Forwarded for=%[src];proto=http"),
    ],
)
async def test_it_writes_the_client_into_a_header(
    tmp_path: Path, header: ForwardedHeader, front: str
) -> None:
    async with behind_haproxy(tmp_path, Proxies(TRUSTED, header), None, "http", front=front) as (_, port):
        assert await told(f"http://127.0.0.1:{port}/page") == f"for {CLIENT}\n"
