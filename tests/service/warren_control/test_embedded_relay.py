"""The relay inside the control server: for members, and until the moment they are none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from support.control_client import Identity
from support.derp import DerpSession
from warren_runtime.tls import client_context
from warren_wire.keys import NodePrivate

from .conftest import BOOTSTRAP, Running


async def relayed(server: Running, identity: Identity) -> DerpSession:
    tls = client_context(server.pair.certificate)
    tls.check_hostname = False
    return await DerpSession.connect(server.port, identity.node, tls=tls)


async def deleted(server: Running, _web: Identity) -> None:
    assert (await server.api("DELETE", "/api/v1/nodes/1"))[0] in (200, 204)


async def disabled(server: Running, _web: Identity) -> None:
    assert (await server.api("PATCH", "/api/v1/nodes/1", {"disabled": True}))[0] == 200


async def expired(server: Running, _web: Identity) -> None:
    assert (await server.api("POST", "/api/v1/nodes/1/expire"))[0] in (200, 204)


async def with_another_key(server: Running, web: Identity) -> None:
    web.node = NodePrivate.from_seed(bytes(range(32)))
    client = await server.client(web)
    assert (await client.register(BOOTSTRAP)).error == ""


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("end", [deleted, disabled, expired, with_another_key])
async def test_who_is_no_member_any_more_loses_its_connection_and_others_keep_theirs(
    server: Running, end: Callable[[Running, Identity], Awaitable[None]]
) -> None:
    web, office = Identity("web"), Identity("office")
    for identity in (web, office):
        await server.member(identity)
    async with await relayed(server, web) as gone, await relayed(server, office) as stays:
        await end(server, web)
        async with asyncio.timeout(20):
            while not gone.reader.at_eof():
                await gone.reader.read(4096)
        await stays.send(stays.key, b"to itself")
        async with await relayed(server, office):
            pass
        with pytest.raises(ConnectionError):
            await relayed(server, Identity("stranger"))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_clients_may_measure_it(server: Running) -> None:
    tls = client_context(server.pair.certificate)
    async with aiohttp.ClientSession() as session:
        for path in ("/derp/latency-check", "/derp/probe"):
            async with session.get(f"https://127.0.0.1:{server.port}{path}", ssl=tls) as answer:
                assert answer.status == 200
