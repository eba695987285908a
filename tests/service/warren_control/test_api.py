"""The admin API over HTTPS, and what it brings about on map streams."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from warren_runtime.tls import client_context

from .conftest import BOOTSTRAP, TOKEN, Running, StartServer


async def test_the_token_is_asked_for(server: Running) -> None:
    for token in ("", "wrong"):
        status, document = await server.api("GET", "/api/v1/nodes", token=token)
        assert (status, document["status"], document["title"]) == (401, 401, "Unauthorized")


async def test_without_a_token_file_the_api_is_off(start_server: StartServer) -> None:
    server = await start_server(admin_token_file=None)
    status, document = await server.api("GET", "/api/v1/nodes")
    assert status == 403
    assert "admin_token_file" in document["detail"]


async def test_a_node_is_shown_with_everything_known(server: Running) -> None:
    web = await server.member("web", endpoints=("192.0.2.1:1",))
    status, node = await server.api("GET", "/api/v1/nodes/1")
    assert status == 200
    assert node["fqdn"] == "web.mesh.internal"
    assert node["addresses"] == ["100.64.0.1", "fd7a:115c:a1e0::1"]
    assert node["node_key"] == str(web.identity.node.public)
    assert node["endpoints"] == ["192.0.2.1:1"]
    assert node["online"] is True
    assert node["user"] == "members"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/v1/nodes/99", None, 404),
        ("GET", "/api/v1/nodes/x", None, 404),
        ("GET", "/api/v1/nothing", None, 404),
        ("PUT", "/api/v1/nodes", None, 405),
        ("PATCH", "/api/v1/nodes/1", {"name": "a_b"}, 422),
        ("PATCH", "/api/v1/nodes/1", {"name": "office"}, 409),
        ("PATCH", "/api/v1/nodes/1", {"unheard": 1}, 422),
        ("PATCH", "/api/v1/nodes/1", {"approved_routes": ["10.0.0.1/8"]}, 422),
        ("PATCH", "/api/v1/nodes/1", {"addresses": ["100.64.0.2"]}, 422),
        ("PATCH", "/api/v1/nodes/1", {"tags": ["web"]}, 422),
        ("POST", "/api/v1/keys", {"expires_in_seconds": 0}, 422),
        ("POST", "/api/v1/keys", {"approve_routes": ["x"]}, 422),
        ("DELETE", "/api/v1/keys/none", None, 404),
        ("PUT", "/api/v1/relays/901", {"RegionCode": "office"}, 422),
        ("PUT", "/api/v1/relays/901", {"RegionCode": 1}, 422),
        ("DELETE", "/api/v1/relays/900", None, 409),
        ("PUT", "/api/v1/relays/900", {"RegionCode": "a", "Nodes": [{"HostName": "x"}]}, 409),
        ("DELETE", "/api/v1/relays/905", None, 404),
    ],
)
async def test_a_bad_wish_gets_a_problem_document_and_changes_nothing(
    server: Running, method: str, path: str, body: Any, status: int
) -> None:
    for name in ("web", "office"):
        await (await server.client(name)).register(BOOTSTRAP)
    before = await server.api("GET", "/api/v1/nodes")
    found, document = await server.api(method, path, body)
    assert (found, document["status"]) == (status, status)
    assert await server.api("GET", "/api/v1/nodes") == before


async def test_a_key_is_shown_once_and_deleted_for_good(server: Running) -> None:
    _, made = await server.api("POST", "/api/v1/keys", {"reusable": True, "tags": ["tag:web"]})
    assert made["key"].startswith(f"warren-auth-{made['id']}-")
    _, listed = await server.api("GET", "/api/v1/keys")
    assert [(key["id"], "key" in key) for key in listed["keys"] if not key["bootstrap"]] == [
        (made["id"], False)
    ]
    assert (await server.api("DELETE", f"/api/v1/keys/{made['id']}"))[0] == 204
    assert (await (await server.client("web")).register(made["key"])).error == "invalid pre-auth key"


async def test_a_relay_region_reaches_connected_nodes_and_survives_a_restart(server: Running) -> None:
    web = await server.member("web")
    region = {"RegionCode": "office", "Nodes": [{"HostName": "198.51.100.7"}]}
    assert (await server.api("PUT", "/api/v1/relays/901", region))[0] == 201
    assert (await server.api("PUT", "/api/v1/relays/901", region))[0] == 200

    def regions() -> list[int]:
        derp_map = web.netmap.derp_map
        return sorted(derp_map.regions or {}) if derp_map is not None else []

    await web.until(lambda: regions() == [900, 901])
    await server.stop()
    await server.start()
    _, listed = await server.api("GET", "/api/v1/relays")
    assert [(relay["RegionID"], relay["embedded"]) for relay in listed["relays"]] == [
        (900, True),
        (901, False),
    ]
    await server.api("DELETE", "/api/v1/relays/901")
    _, listed = await server.api("GET", "/api/v1/relays")
    assert len(listed["relays"]) == 1


async def test_disabling_a_node_hides_it_and_enabling_brings_it_back(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    await web.until(lambda: web.peer("office") is not None)
    await server.api("PATCH", "/api/v1/nodes/2", {"disabled": True})
    await web.until(lambda: web.peer("office") is None)
    await office.until(lambda: office.poll_ended)
    await office.poll()
    assert office.netmap.peers == {}
    await server.api("PATCH", "/api/v1/nodes/2", {"disabled": False})
    await office.until(lambda: office.poll_ended)
    await office.poll()
    assert office.peer("web") is not None
    await web.until(lambda: web.peer("office") is not None)


async def test_pinned_addresses_reach_the_node_and_its_peers(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    await web.until(lambda: web.peer("office") is not None)
    await server.api("PATCH", "/api/v1/nodes/2", {"addresses": ["100.64.9.9"]})
    wanted = ("100.64.9.9/32", "fd7a:115c:a1e0::2/128")
    await web.until(lambda: (peer := web.peer("office")) is not None and peer.addresses == wanted)
    await office.until(lambda: (me := office.netmap.self_node) is not None and me.addresses == wanted)


async def test_the_stream_of_events_follows_changes(server: Running) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"https://127.0.0.1:{server.port}/api/v1/events"
    tls = client_context(server.pair.certificate)
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=tls) as response,
        asyncio.timeout(20),
    ):
        assert response.content_type == "text/event-stream"
        first = await response.content.readline()
        assert first.startswith(b'data: {"revision":')
        await (await server.client("web")).register(BOOTSTRAP)
        assert await response.content.readline() == b"\n"
        second = await response.content.readline()
        assert second.startswith(b'data: {"revision":')
        assert second != first


async def test_status_counts(server: Running) -> None:
    await server.member("web")
    await (await server.client("office")).register("wrong")
    _, status = await server.api("GET", "/api/v1/status")
    assert (status["nodes"], status["online"]) == (1, 1)
    assert status["registrations"]["admitted"] == 1
    assert status["registrations"]["refused"] == 1
