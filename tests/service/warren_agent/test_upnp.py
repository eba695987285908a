"""The agent's UPnP client against devices of a home network, most of them hostile, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import Any, cast

import pytest
from aiohttp import web

from warren_agent.paths.portmap import Router
from warren_agent.paths.upnp_codec import MAX_DOCUMENT_BYTES, SSDP_PORT, UpnpError
from warren_agent.transport.upnp import UpnpClient
from warren_agent.transport.upnp_keeper import UpnpKeeper
from warren_wire.addresses import AddrPort

ROUTER, HOST = IPv4Address("127.93.0.1"), IPv4Address("127.93.0.2")
PORT = 41641
KIND = "urn:schemas-upnp-org:service:WANIPConnection:1"


def envelope(inner: str) -> str:
    return f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{inner}</s:Body></s:Envelope>'


def fault(code: int) -> web.Response:
    return web.Response(status=500, text=envelope(f"<e><errorCode>{code}</errorCode></e>"))


class Device(asyncio.DatagramProtocol):
    """A device that answers searches; what it says in the rest is up to the test."""

    def __init__(self) -> None:
        self.kind = KIND
        self.locations = ["/desc.xml"]
        self.control = "/ctl"
        self.public = "203.0.113.9"
        self.faults: list[int] = []
        self.mapped: dict[int, dict[str, str]] = {}
        self.seen: list[str] = []
        self.describe: Callable[[], web.StreamResponse] | None = None
        self.port = 0
        self.unmapped = asyncio.Event()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The loop's class is one in all but its name.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert data.startswith(b"M-SEARCH")
        assert self._transport is not None
        for location in self.locations:
            url = location if "//" in location else f"http://{ROUTER}:{self.port}{location}"
            self._transport.sendto(
                b"HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
                + f"LOCATION: {url}\r\n\r\n".encode(),
                addr,
            )

    async def on_description(self, request: web.Request) -> web.StreamResponse:
        self.seen.append("description")
        if self.describe is not None:
            return self.describe()
        return web.Response(
            text=f"<root><service><serviceType>{self.kind}</serviceType>"
            f"<controlURL>{self.control}</controlURL></service></root>"
        )

    async def on_control(self, request: web.Request) -> web.Response:
        action = request.headers["SOAPAction"].strip('"').partition("#")[2]
        self.seen.append(action)
        body = await request.text()

        def value(name: str) -> str:
            return body.partition(f"<{name}>")[2].partition("<")[0]

        match action:
            case "GetExternalIPAddress":
                return web.Response(
                    text=envelope(f"<NewExternalIPAddress>{self.public}</NewExternalIPAddress>")
                )
            case "AddPortMapping" | "AddAnyPortMapping":
                if self.faults:
                    return fault(self.faults.pop(0))
                port = int(value("NewExternalPort")) + (action == "AddAnyPortMapping")
                names = ("NewProtocol", "NewInternalClient", "NewInternalPort", "NewLeaseDuration")
                self.mapped[port] = {name: value(name) for name in names}
                return web.Response(text=envelope(f"<NewReservedPort>{port}</NewReservedPort>"))
            case "DeletePortMapping":
                del self.mapped[int(value("NewExternalPort"))]
                self.unmapped.set()
                return web.Response(text=envelope(""))
            case _:
                return fault(401)


@asynccontextmanager
async def serving(device: Device) -> AsyncIterator[UpnpClient]:
    app = web.Application()
    app.router.add_get("/desc.xml", device.on_description)
    app.router.add_post("/ctl", device.on_control)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, str(ROUTER), 0)
    await site.start()
    device.port = runner.addresses[0][1]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: device, local_addr=(str(ROUTER), SSDP_PORT)
    )
    try:
        yield UpnpClient(Router(ROUTER, HOST), mark=0)
    finally:
        transport.close()
        await runner.cleanup()


async def test_a_mapping_is_made_and_given_back() -> None:
    device = Device()
    async with serving(device) as client:
        mapping = await client.map(PORT, PORT)
        assert mapping is not None
        assert mapping.external == AddrPort(IPv4Address("203.0.113.9"), PORT)
        assert device.mapped == {
            PORT: {
                "NewProtocol": "UDP",
                "NewInternalClient": str(HOST),
                "NewInternalPort": str(PORT),
                "NewLeaseDuration": "7200",
            }
        }
        await client.release(mapping)
        assert device.mapped == {}
        assert client.refused == 0


async def test_the_second_version_chooses_the_port_itself() -> None:
    device = Device()
    device.kind = KIND.replace(":1", ":2")
    async with serving(device) as client:
        mapping = await client.map(PORT, PORT)
        assert mapping is not None
        assert mapping.external.port == PORT + 1


async def test_a_router_that_knows_only_endless_mappings_gives_one() -> None:
    device = Device()
    device.faults = [725]
    async with serving(device) as client:
        mapping = await client.map(PORT, PORT)
        assert mapping is not None
        assert mapping.lifetime == 0
        assert device.mapped[PORT]["NewLeaseDuration"] == "0"


async def test_a_taken_port_makes_way_for_another() -> None:
    device = Device()
    device.faults = [718]
    async with serving(device) as client:
        mapping = await client.map(PORT, PORT)
        assert mapping is not None
        assert mapping.external.port != PORT


async def test_a_router_that_always_refuses_is_not_asked_without_end() -> None:
    device = Device()
    device.faults = [718] * 50
    async with serving(device) as client:
        with pytest.raises(UpnpError, match="718"):
            await client.map(PORT, PORT)
        assert len(device.faults) == 47


@pytest.mark.parametrize("public", ["0.0.0.0", "127.0.0.1", "239.1.1.1", "no address", ""])
async def test_an_address_that_nobody_can_reach_is_no_mapping(public: str) -> None:
    device = Device()
    device.public = public
    async with serving(device) as client:
        with pytest.raises(UpnpError, match="address"):
            await client.map(PORT, PORT)
        assert device.mapped == {}


async def test_descriptions_at_other_hosts_are_not_fetched() -> None:
    device = Device()
    device.locations = ["http://192.0.2.7/desc.xml", "http://user@127.93.0.1/desc.xml"]
    async with serving(device) as client:
        assert await client.map(PORT, PORT) is None
        assert client.refused >= 2
        assert device.seen == []


async def test_a_control_url_of_another_host_is_not_called() -> None:
    device = Device()
    device.control = "http://192.0.2.7/ctl"
    async with serving(device) as client:
        with pytest.raises(UpnpError, match="another host"):
            await client.map(PORT, PORT)
        assert client.refused == 1
        assert device.seen == ["description"]


def redirect() -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://192.0.2.7/desc.xml"})


def endless() -> web.StreamResponse:
    return web.Response(body=b"<root>" + b"x" * (4 * MAX_DOCUMENT_BYTES) + b"</root>")


def bomb() -> web.StreamResponse:
    return web.Response(text='<!DOCTYPE r [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;">]><root>&b;</root>')


@pytest.mark.parametrize("describe", [redirect, endless, bomb])
async def test_hostile_descriptions_are_refused_and_counted(
    describe: Callable[[], web.StreamResponse],
) -> None:
    device = Device()
    device.describe = describe
    async with serving(device) as client:
        with pytest.raises(UpnpError):
            await client.map(PORT, PORT)
        assert client.refused == 1


async def test_many_descriptions_are_not_all_read() -> None:
    device = Device()
    device.locations = [f"/desc.xml?{n}" for n in range(200)]
    device.control = "http://192.0.2.7/ctl"
    async with serving(device) as client:
        with pytest.raises(UpnpError):
            await client.map(PORT, PORT)
        assert len(device.seen) <= 4


async def test_the_keeper_holds_a_mapping_while_it_is_wanted() -> None:
    device = Device()
    changed = asyncio.Event()
    async with serving(device):
        keeper = UpnpKeeper(internal_port=PORT, mark=0, on_change=changed.set)
        task = asyncio.create_task(keeper.run())
        try:
            keeper.want(Router(ROUTER, HOST))
            async with asyncio.timeout(15):
                await changed.wait()
                assert keeper.external == AddrPort(IPv4Address("203.0.113.9"), PORT)
                changed.clear()
                keeper.want(None)
                await changed.wait()
                assert keeper.external is None
                await device.unmapped.wait()
                assert device.mapped == {}
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
