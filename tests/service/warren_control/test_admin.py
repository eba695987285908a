"""What administrators have: scopes, filters, pages, a description, a local socket, an audit log."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from .conftest import BOOTSTRAP, Running, StartServer


async def _token(server: Running, scope: str, **fields: Any) -> str:
    status, document = await server.api("POST", "/api/v1/tokens", {"scope": scope, **fields})
    assert status == 201
    return str(document["token"])


@pytest.mark.parametrize(
    ("scope", "read", "join", "write"),
    [("admin", 200, 201, 201), ("read-only", 200, 403, 403), ("join-only", 403, 201, 403)],
)
async def test_a_token_opens_what_its_scope_says(
    server: Running, scope: str, read: int, join: int, write: int
) -> None:
    token = await _token(server, scope)
    assert (await server.api("GET", "/api/v1/nodes", token=token))[0] == read
    assert (await server.api("GET", "/api/v1/openapi.json", token=token))[0] == read
    assert (await server.api("POST", "/api/v1/keys", {}, token=token))[0] == join
    assert (await server.api("POST", "/api/v1/users", {"name": "alice"}, token=token))[0] == write
    assert (await server.api("POST", "/api/v1/tokens", {"scope": "admin"}, token=token))[0] == write


async def test_a_token_survives_a_restart_and_ends_when_deleted(server: Running) -> None:
    token = await _token(server, "read-only", name="dashboard")
    await server.stop()
    await server.start()
    assert (await server.api("GET", "/api/v1/nodes", token=token))[0] == 200
    _, document = await server.api("GET", "/api/v1/tokens")
    (shown,) = document["tokens"]
    assert shown["name"] == "dashboard"
    assert "token" not in shown
    assert (await server.api("DELETE", f"/api/v1/tokens/{shown['id']}"))[0] == 204
    assert (await server.api("GET", "/api/v1/nodes", token=token))[0] == 401


async def test_the_description_names_every_call_and_its_body(server: Running) -> None:
    _, document = await server.api("GET", "/api/v1/openapi.json")
    assert document["openapi"] == "3.1.0"
    patch = document["paths"]["/api/v1/nodes/{id}"]["patch"]
    assert patch["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/NodePatch"
    }
    assert "approved_routes" in document["components"]["schemas"]["NodePatch"]["properties"]
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            assert call["summary"], (method, path)
            assert {"401", "403"} <= call["responses"].keys(), (method, path)
    OpenAPIV31SpecValidator(document).validate()
    names = [call["operationId"] for calls in document["paths"].values() for call in calls.values()]
    assert len(set(names)) == len(names)


LISTS = ("nodes", "users", "keys", "tokens", "relays", "pending", "ssh/checks")


@pytest.mark.parametrize("name", LISTS)
async def test_every_list_has_pages_and_knows_its_filters(server: Running, name: str) -> None:
    for number in range(3):
        await server.api("POST", "/api/v1/users", {"name": f"user{number}"})
        await server.api("POST", "/api/v1/keys", {"tags": ["tag:web"]})
        await server.api("POST", "/api/v1/tokens", {"scope": "read-only"})
        await server.member(f"web{number}")
        await (await server.client(f"new{number}")).register()
    field = name.rpartition("/")[2]
    status, whole = await server.api("GET", f"/api/v1/{name}")
    assert status == 200
    assert whole["total"] == len(whole[field])
    _, page = await server.api("GET", f"/api/v1/{name}?limit=2")
    assert page[field] == whole[field][:2]
    assert page["total"] == whole["total"]
    if name != "nodes":
        _, page = await server.api("GET", f"/api/v1/{name}?limit=2&offset=2")
        assert page[field] == whole[field][2:4]
    for wrong in ("limit=0", "limit=x", "nonsense=1"):
        assert (await server.api("GET", f"/api/v1/{name}?{wrong}"))[0] == 422


async def test_nodes_are_filtered_and_paged(server: Running) -> None:
    await server.api("POST", "/api/v1/users", {"name": "alice"})
    _, key = await server.api("POST", "/api/v1/keys", {"user": "alice"})
    _, tagged = await server.api("POST", "/api/v1/keys", {"tags": ["tag:db"]})
    await (await server.client("hers")).register(key["key"])
    await (await server.client("db")).register(tagged["key"])
    await server.member("web")

    async def names(query: str) -> list[str]:
        _, document = await server.api("GET", f"/api/v1/nodes?{query}")
        return [node["name"] for node in document["nodes"]]

    assert await names("user=alice") == ["hers"]
    assert await names("tag=tag:db") == ["db"]
    assert await names("online=true") == ["web"]
    assert await names("name=web") == ["web"]
    _, first = await server.api("GET", "/api/v1/nodes?limit=2")
    assert ([node["id"] for node in first["nodes"]], first["next"]) == ([1, 2], 2)
    assert await names("limit=2&after=2") == ["web"]
    for wrong in ("limit=0", "limit=x", "online=maybe", "nmae=web"):
        assert (await server.api("GET", f"/api/v1/nodes?{wrong}"))[0] == 422


async def test_expiry_is_set_extended_and_switched_off_for_good(start_server: StartServer) -> None:
    server = await start_server(registration={"node_expiry_days": 90})
    web = await server.member("web")
    _, node = await server.api("GET", "/api/v1/nodes/1")
    assert datetime.fromisoformat(node["expiry"]) > datetime.now(UTC) + timedelta(days=89)
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await server.api("PATCH", "/api/v1/nodes/1", {"expiry": soon})
    await web.until(
        lambda: (
            (me := web.netmap.self_node) is not None
            and me.key_expiry is not None
            and me.key_expiry < datetime.now(UTC) + timedelta(days=2)
        )
    )
    await server.api("PATCH", "/api/v1/nodes/1", {"expiry": None})
    await web.register(expiry=datetime(1970, 1, 1, 0, 2, 3, tzinfo=UTC))
    await web.register(BOOTSTRAP)
    _, node = await server.api("GET", "/api/v1/nodes/1")
    assert (node["expiry"], node["expiry_disabled"]) == (None, True)
    assert (await server.api("PATCH", "/api/v1/nodes/1", {"expiry": "2027-01-01T00:00:00"}))[0] == 422


async def test_machines_with_tags_do_not_expire(start_server: StartServer) -> None:
    server = await start_server(registration={"node_expiry_days": 90})
    _, key = await server.api("POST", "/api/v1/keys", {"tags": ["tag:db"]})
    await (await server.client("db")).register(key["key"])
    _, node = await server.api("GET", "/api/v1/nodes/1")
    assert node["expiry"] is None


async def test_the_local_socket_needs_no_token_and_its_file_guards_it(
    start_server: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "run/control.sock"
    server = await start_server(admin_socket=str(file), admin_token_file=None)
    assert file.stat().st_mode & 0o777 == 0o660
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(file))) as session:
        async with session.post("http://localhost/api/v1/users", json={"name": "alice"}) as response:
            assert response.status == 201
        async with session.get("http://localhost/api/v1/nothing") as response:
            assert (await response.json(content_type=None))["status"] == 404
    assert (await server.api("GET", "/api/v1/nodes"))[0] == 403


async def test_each_change_leaves_a_line_without_secrets(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "warren_control.api.audit")
    token = await _token(server, "admin", name="deploy")
    _, key = await server.api("POST", "/api/v1/keys", {"tags": ["tag:db"]}, token=token)
    await server.member("web")
    await server.api("PATCH", "/api/v1/nodes/1", {"name": "front"}, token=token)
    lines = [record.__dict__ for record in caplog.records if record.name == "warren_control.api.audit"]
    assert [(line["who"], line["target"]) for line in lines[1:]] == [
        ("token deploy", f"key {key['id']}"),
        ("token deploy", "node 1 web"),
    ]
    assert lines[2]["before"]["name"] == "web"
    assert lines[2]["after"]["name"] == "front"
    assert set(lines[2]["after"]) == {"name", "fqdn"}
    assert not any(secret in str(lines) for secret in (token, key["key"]))
