"""DERP in WebSocket messages, as browsers speak it, with an independent client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from support.derp import DerpSession
from warren_runtime.derp_server import DerpService
from warren_runtime.listener import Listener
from warren_wire.derp.client import ClientEvent, DerpClient, PacketReceived, Ready
from warren_wire.keys import NodePrivate, NodePublic

SERVER = NodePrivate.from_seed(b"\x55" * 32)
HEAD = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


async def everyone(key: NodePublic, source: str) -> bool:
    return True


@asynccontextmanager
async def running() -> AsyncIterator[tuple[DerpService, int]]:
    service = DerpService(SERVER, everyone)
    listener = Listener(web.Application(), service.upgrades())
    await listener.start("127.0.0.1", 0)
    try:
        yield service, listener.port
    finally:
        service.close()
        await listener.close()


async def next_event(socket: aiohttp.ClientWebSocketResponse, machine: DerpClient) -> ClientEvent:
    events = machine.events()
    while not events:
        machine.receive_data(await socket.receive_bytes())
        await socket.send_bytes(machine.data_to_send())
        events = machine.events()
    assert len(events) == 1
    return events[0]


async def test_a_browser_talks_to_a_node() -> None:
    async with (
        running() as (service, port),
        await DerpSession.connect(port) as office,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/derp", protocols=("derp",)) as socket,
    ):
        assert socket.protocol == "derp"
        browser = NodePrivate.from_seed(os.urandom(32))
        machine = DerpClient(browser, lambda: os.urandom(24))
        machine.receive_data(HEAD)
        assert isinstance(await next_event(socket, machine), Ready)
        for size in (1, 100, 1280, 65536):
            machine.send_packet(office.key, bytes(size))
            data = machine.data_to_send()
            # Where messages begin and end means nothing.
            await socket.send_bytes(data[:3])
            await socket.ping()
            await socket.send_bytes(data[3:])
            assert await office.expect(PacketReceived) == (browser.public, bytes(size))
            await office.send(browser.public, bytes(size))
            assert await next_event(socket, machine) == (office.key, bytes(size))
        assert service.stats().websockets == 1


async def test_text_ends_the_connection_and_nothing_else() -> None:
    async with (
        running() as (_, port),
        await DerpSession.connect(port) as office,
        aiohttp.ClientSession() as session,
    ):
        async with session.ws_connect(f"http://127.0.0.1:{port}/derp", protocols=("derp",)) as socket:
            await socket.send_str("hello")
            while (await socket.receive()).type != aiohttp.WSMsgType.CLOSED:
                pass
        await office.send(office.key, b"undisturbed")
        assert await office.expect(PacketReceived) == (office.key, b"undisturbed")
