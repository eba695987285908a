"""Who gets in, and that those who do not leave no trace and disturb nobody."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from support.control_client import Identity
from warren_control.db.engine import open_engine, parse_url
from warren_control.db.repository import Repository, Write
from warren_control.keys import new_key
from warren_runtime.tls import client_context
from warren_wire.control.messages import Hostinfo
from warren_wire.keys import NodePrivate

from .conftest import BOOTSTRAP, Running, StartServer

LOGOUT = datetime(1970, 1, 1, 0, 2, 3, tzinfo=UTC)


async def _one_shot(server: Running) -> str:
    status, document = await server.api("POST", "/api/v1/keys", {"reusable": False})
    assert status == 201
    return str(document["key"])


async def test_a_wrong_key_is_told_and_stores_nothing(server: Running) -> None:
    web = await server.client("web")
    assert (await web.register("warren-auth-wrong")).error == "invalid pre-auth key"
    status, document = await server.api("GET", "/api/v1/nodes")
    assert (status, document["nodes"]) == (200, [])
    _, status_document = await server.api("GET", "/api/v1/status")
    failures = status_document["recent_failures"]
    assert [(failure["hostname"], failure["reason"]) for failure in failures] == [
        ("web", "invalid pre-auth key")
    ]
    assert await web.poll() == 404


async def test_without_a_key_the_error_says_how_to_get_one(start_server: StartServer) -> None:
    server = await start_server(registration={"web_approval": False})
    web = await server.client("web")
    assert "keys create" in (await web.register()).error


async def test_a_one_shot_key_admits_one_machine_and_that_one_again(server: Running) -> None:
    key = await _one_shot(server)
    first = await server.client("web")
    assert (await first.register(key)).error == ""
    second = await server.client("office")
    assert "already used" in (await second.register(key)).error
    assert (await first.register(key)).error == ""
    _, document = await server.api("GET", "/api/v1/nodes")
    assert [node["name"] for node in document["nodes"]] == ["web"]


async def test_a_one_shot_key_does_not_admit_its_machine_after_a_logout(server: Running) -> None:
    key = await _one_shot(server)
    web = await server.client("web")
    await web.register(key)
    # Stock clients repeat the key of their login in the logout.
    assert (await web.register(key, expiry=LOGOUT)).error == ""
    assert "already used" in (await web.register(key)).error
    assert (await web.register(BOOTSTRAP)).error == ""


async def test_an_expired_node_is_asked_for_a_new_node_key(server: Running) -> None:
    web = await server.client("web")
    await web.register(BOOTSTRAP)
    await web.register(expiry=LOGOUT)
    assert (await web.register()).node_key_expired
    web.identity.node = NodePrivate.from_seed(bytes(range(32)))
    assert (await web.register(BOOTSTRAP)).error == ""
    _, document = await server.api("GET", "/api/v1/nodes")
    assert [(node["id"], node["expiry"]) for node in document["nodes"]] == [(1, None)]


async def test_a_node_key_belongs_to_one_machine(server: Running) -> None:
    web = await server.client("web")
    await web.register(BOOTSTRAP)
    thief = await server.client(Identity("thief", node=web.identity.node))
    assert "another machine" in (await thief.register(BOOTSTRAP)).error
    assert await thief.poll() == 404


async def test_a_key_made_beside_the_running_server_is_accepted(server: Running) -> None:
    key, text = new_key(
        datetime.now(UTC), reusable=False, ephemeral=False, expiry=None, tags=("tag:web",), approve_routes=()
    )
    repository = Repository(await open_engine(parse_url(server.config().database)))
    await repository.write(Write(keys=(key,)))
    await repository.close()
    web = await server.client("web")
    assert (await web.register(text)).error == ""
    _, document = await server.api("GET", "/api/v1/nodes/1")
    assert (document["tags"], document["user"]) == (["tag:web"], "tagged-devices")


async def test_an_expired_key_is_refused(server: Running) -> None:
    _, document = await server.api("POST", "/api/v1/keys", {"expires_in_seconds": 3600})
    assert server.server is not None
    store = server.server.store
    record = store.snapshot.keys[document["id"]]
    async with store.writing() as writer:
        await writer.put_key(replace(record, expiry=datetime.now(UTC) - timedelta(seconds=1)))
    web = await server.client("web")
    assert "expired" in (await web.register(document["key"])).error


async def test_nonsense_in_hostinfo_reaches_no_peer(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    strange = Hostinfo(hostname="office", extra={"ShareeNode": "yes", "Desktop": True, "Unheard": [1]})
    await office.report(hostinfo=strange)

    def extra() -> dict[str, object]:
        peer = web.peer("office")
        return dict(peer.hostinfo.extra) if peer is not None and peer.hostinfo is not None else {}

    await web.until(lambda: extra() == {"Desktop": True})


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/machine/map", b"{", 400),
        ("/machine/map", b'{"NodeKey":"nodekey:12"}', 400),
        ("/machine/register", b"[]", 400),
        ("/machine/tka/bootstrap", b"{}", 501),
        ("/machine/update-health", b"{}", 204),
        ("/elsewhere", b"", 404),
        ("/machine/register", b"x" * (1024 * 1024 + 1), 413),
    ],
)
async def test_a_request_that_cannot_be_served_is_answered(
    server: Running, path: str, body: bytes, status: int
) -> None:
    web = await server.client("web")
    assert (await web.call("POST", path, body)).status == status
    assert (await web.register(BOOTSTRAP)).error == ""


async def test_a_broken_record_ends_that_connection_only(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    office.send_raw(b"\x04\x00\x20" + bytes(32))
    await office.until(lambda: office.disconnected)
    await server.member("home")
    await web.until(lambda: web.peer("home") is not None)
    assert not web.disconnected


@pytest.mark.parametrize("handshake", ["", "!!!", base64.b64encode(bytes(101)).decode(), "AAAA"])
async def test_a_bad_handshake_is_refused(server: Running, handshake: str) -> None:
    tls: ssl.SSLContext = client_context(server.pair.certificate)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=tls)
    writer.write(
        b"POST /ts2021 HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
        b"Upgrade: tailscale-control-protocol\r\nX-Tailscale-Handshake: " + handshake.encode() + b"\r\n\r\n"
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert (await (await server.client("web")).register(BOOTSTRAP)).error == ""


async def test_relays_ask_who_may_use_them(server: Running) -> None:
    web = await server.member("web")
    known = str(web.identity.node.public)
    assert await server.api("POST", "/verify", {"NodePublic": known}) == (200, {"Allow": True})
    stranger = "nodekey:" + "1" * 64
    assert await server.api("POST", "/verify", {"NodePublic": stranger}) == (200, {"Allow": False})
    await web.register(expiry=LOGOUT)
    assert await server.api("POST", "/verify", {"NodePublic": known}) == (200, {"Allow": False})


async def test_an_ephemeral_node_is_gone_after_its_logout(server: Running) -> None:
    _, document = await server.api("POST", "/api/v1/keys", {"ephemeral": True})
    web = await server.member("web")
    job = await server.client("job")
    await job.register(document["key"])
    await job.poll()
    await web.until(lambda: web.peer("job") is not None)
    await job.register(document["key"], expiry=LOGOUT)
    await web.until(lambda: web.peer("job") is None)


async def test_a_machine_that_leaves_for_good_frees_its_name(server: Running) -> None:
    web = await server.member("web")
    nas = await server.member("nas")
    await web.until(lambda: web.peer("nas") is not None)
    await nas.register(expiry=LOGOUT, ephemeral=True)
    await web.until(lambda: web.peer("nas") is None)
    await server.member("nas")
    await web.until(lambda: web.peer("nas") is not None)


async def test_a_used_up_pool_is_told(start_server: StartServer) -> None:
    server = await start_server(addresses={"v4": "100.64.0.0/30"})
    for name in ("web", "office"):
        assert (await (await server.client(name)).register(BOOTSTRAP)).error == ""
    assert "no free address" in (await (await server.client("home")).register(BOOTSTRAP)).error
