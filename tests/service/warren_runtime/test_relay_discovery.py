"""Relays of a region that find each other by a name whose addresses change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from support.certificates import Pair
from support.derp import DerpSession
from support.eventually import eventually
from warren_runtime.backoff import Backoff
from warren_runtime.derp_server import DerpService
from warren_runtime.listener import Listener
from warren_runtime.opening import ServerTls
from warren_runtime.relay_discovery import RegionDiscovery, resolve
from warren_runtime.relay_links import RelayLinks
from warren_runtime.tls import ReloadingTrust, server_context
from warren_wire.derp.client import PacketReceived
from warren_wire.keys import NodePrivate, NodePublic

MESH_KEY = "5a" * 32
NAME = "relays.example"


async def everyone(key: NodePublic, source: str) -> bool:
    return True


@dataclass
class Names:
    """A name server of one name; without addresses it does not answer."""

    addresses: list[str] = field(default_factory=list)

    async def resolve(self, name: str) -> list[str]:
        assert name == NAME
        if not self.addresses:
            raise OSError("no such name")
        return list(self.addresses)


@dataclass
class Relay:
    """One of a region whose relays have the same port on addresses of their own."""

    service: DerpService
    links: RelayLinks
    discovery: RegionDiscovery
    port: int
    address: str

    async def connect(self) -> DerpSession:
        return await DerpSession.connect(self.port, host=self.address)


@asynccontextmanager
async def relay(
    names: Names, address: str, port: int, pair: Pair | None = None, *, caller_seconds: float = 60.0
) -> AsyncIterator[Relay]:
    service = DerpService(NodePrivate.from_seed(os.urandom(32)), everyone, mesh_key=MESH_KEY)
    context = server_context(pair.certificate, pair.key) if pair else None
    listener = Listener(web.Application(), service.upgrades(), tls=ServerTls(context) if context else None)
    await listener.start(address, port)
    trust = ReloadingTrust(pair.certificate).context if pair else None
    links = RelayLinks(service, (), MESH_KEY, trust, backoff=lambda: Backoff(0.01, 0.02))
    discovery = RegionDiscovery(
        links,
        NAME,
        listener.port,
        certificate_name="localhost",
        resolve=names.resolve,
        look_seconds=0.02,
        caller_seconds=caller_seconds,
    )
    service.on_relay = discovery.called_by
    tasks = [asyncio.create_task(links.run()), asyncio.create_task(discovery.run())]
    try:
        yield Relay(service, links, discovery, listener.port, address)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        service.close()
        await listener.close()


async def test_relays_follow_the_addresses_of_the_name(pair: Pair) -> None:
    names = Names(["127.0.0.1", "127.0.0.2"])
    async with relay(names, "127.0.0.1", 0, pair) as one, relay(names, "127.0.0.2", one.port, pair) as two:
        # Each list has the relay itself too, which it leaves out.
        await eventually(lambda: one.links.up == two.links.up == 1)
        async with relay(names, "127.0.0.3", one.port, pair) as three:
            names.addresses.append("127.0.0.3")
            await eventually(lambda: one.links.up == two.links.up == three.links.up == 2)
        names.addresses.remove("127.0.0.3")
        await eventually(lambda: one.links.up == two.links.up == 1 and one.links.is_settled)


async def test_a_relay_that_calls_is_called_back_before_the_name_has_it() -> None:
    stale, fresh = Names(["127.0.0.1"]), Names(["127.0.0.1", "127.0.0.2"])
    heard: list[str] = []
    async with relay(stale, "127.0.0.1", 0) as one:
        one.service.on_relay = heard.append
        async with relay(fresh, "127.0.0.2", one.port) as two:
            await eventually(lambda: two.links.up == 1 and len(heard) == 1)
            # On loopback every call comes from the same address, so the second relay's is put in here.
            one.discovery.called_by("127.0.0.2")
            await eventually(lambda: one.links.up == 1)


async def test_a_caller_whom_the_name_never_has_is_forgotten() -> None:
    names = Names(["127.0.0.1"])
    async with (
        relay(names, "127.0.0.1", 0, caller_seconds=0.1) as one,
        relay(Names(), "127.0.0.2", one.port),
    ):
        one.discovery.called_by("127.0.0.2")
        await eventually(lambda: one.links.up == 1)
        await eventually(lambda: one.links.up == 0)


async def test_while_the_name_has_no_answer_links_stay_and_packets_pass() -> None:
    names = Names(["127.0.0.1", "127.0.0.2"])
    async with relay(names, "127.0.0.1", 0) as one, relay(names, "127.0.0.2", one.port) as two:
        await eventually(lambda: one.links.up == two.links.up == 1)
        names.addresses = []
        async with await one.connect() as home, await two.connect() as office:
            await eventually(lambda: one.service.stats().remote_clients == 1)
            await home.send(office.key, b"still there")
            assert await office.expect(PacketReceived) == (home.key, b"still there")


async def test_a_relay_is_settled_when_it_has_called_everyone_it_knows() -> None:
    names = Names(["127.0.0.1", "127.0.0.9"])
    async with relay(names, "127.0.0.1", 0) as one:
        # Nobody listens on the second address.
        await eventually(lambda: one.discovery.has_looked and one.links.is_settled)
        assert one.links.up == 0


async def test_names_are_resolved_as_the_system_does() -> None:
    assert "127.0.0.1" in await resolve("127.0.0.1")
