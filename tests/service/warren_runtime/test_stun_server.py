"""The STUN server with real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from support.eventually import eventually
from warren_runtime.stun_server import StunResult, StunServer
from warren_wire import stun
from warren_wire.addresses import AddrPort


@asynccontextmanager
async def serving(host: str) -> AsyncIterator[StunServer]:
    server = StunServer(host, 0)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def ask(port: int, asked: str, data: bytes) -> tuple[bytes, tuple[str, int], tuple[str, int]]:
    """The answer, who sent it, and our own address."""
    family = socket.AF_INET6 if ":" in asked else socket.AF_INET
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        sock.sendto(data, (asked, port))
        answer = await loop.sock_recv(sock, 2048)
        return answer, (asked, port), sock.getsockname()[:2]


@pytest.mark.parametrize(
    ("host", "asked"), [("", "127.0.0.1"), ("", "::1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1")]
)
async def test_a_request_is_answered_with_the_address_it_came_from(host: str, asked: str) -> None:
    async with serving(host) as server:
        txid = os.urandom(12)
        answer, _, own = await ask(server.port, asked, stun.binding_request(txid))
        found, mapped = stun.parse_binding_response(answer)
        assert found == txid
        assert mapped == AddrPort.parse(f"[{own[0]}]:{own[1]}" if ":" in own[0] else f"{own[0]}:{own[1]}")
        assert len(answer) == (44 if ":" in asked else 32)


@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "127.9.8.7"])
async def test_the_answer_comes_from_the_address_that_was_asked(asked: str) -> None:
    async with serving("0.0.0.0") as server:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.bind(("127.0.0.1", 0))
            # A connected socket drops what comes from anywhere else, as a strict NAT does.
            sock.connect((asked, server.port))
            sock.send(stun.binding_request(bytes(12)))
            answer = await loop.sock_recv(sock, 2048)
        assert stun.parse_binding_response(answer)[0] == bytes(12)


async def test_anything_else_is_counted_and_not_answered() -> None:
    async with serving("127.0.0.1") as server:
        junk = [b"", b"x", os.urandom(1400), stun.binding_request(bytes(12))[:-1]]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for data in junk:
                sock.sendto(data, ("127.0.0.1", server.port))
        await eventually(lambda: server.results[StunResult.NOT_STUN] == len(junk))
        await ask(server.port, "127.0.0.1", stun.binding_request(bytes(12)))
        assert server.results == {StunResult.NOT_STUN: len(junk), StunResult.SUCCESS: 1}
        assert server.families == {4: 1}


async def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    async with serving("127.0.0.1") as server:
        with pytest.raises(OSError):
            await StunServer("127.0.0.1", server.port).start()
