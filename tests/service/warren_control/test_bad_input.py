"""Nonsense from a machine, a damaged record, a refused wish: each affects itself and nobody else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from support.control_client import VERSION, Identity
from warren_control.db.engine import connect, parse_url
from warren_wire.control.messages import Hostinfo, RegisterAuth, encode

from .conftest import BOOTSTRAP, Running, StartServer

LONG = "x" * 10_000


@pytest.mark.parametrize(
    ("hostname", "name"),
    [(LONG, "x" * 63), ("..", "node"), ("\u0000\u202e☃", "node"), ("-shop-", "shop"), ("localhost", "node")],
)
async def test_a_machine_that_reports_nonsense_disturbs_nobody(
    server: Running, hostname: str, name: str
) -> None:
    web = await server.member("web")
    strange = await server.client(Identity(hostname))
    assert (await strange.register(BOOTSTRAP)).error == ""
    assert await strange.poll() == 200
    await web.until(lambda: web.peer(name) is not None)
    # Delivery goes on, to everyone and about everyone.
    office = await server.member("office")
    await web.until(lambda: web.peer("office") is not None)
    assert office.peer(name) is not None


async def test_an_absurd_list_of_endpoints_is_cut(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    many = tuple(f"192.0.2.{number % 250 + 1}:{number}" for number in range(1, 20_000))
    await office.report(endpoints=(*many, "nonsense", "192.0.2.1:99999", "[fe80::1%eth0]:1"))
    await web.until(lambda: (peer := web.peer("office")) is not None and peer.endpoints)
    peer = web.peer("office")
    assert peer is not None
    assert peer.endpoints is not None
    assert len(peer.endpoints) == 64


async def test_a_huge_hostinfo_is_refused_and_its_machine_stays_as_it_was(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    huge = Hostinfo(hostname="renamed", os="linux", extra={"Env": "x" * 70_000})
    assert await office.report(hostinfo=huge) == 400
    assert await office.report(endpoints=("192.0.2.7:41641",)) == 200
    await web.until(
        lambda: (peer := web.peer("office")) is not None and peer.endpoints == ("192.0.2.7:41641",)
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"Version": "many"}',
        b'{"NodeKey": "nodekey:zz"}',
        b'{"Hostinfo": ' + b"[" * 5_000,
        b'{"Endpoints": [1, null]}',
    ],
)
@pytest.mark.parametrize("path", ["/machine/register", "/machine/map"])
async def test_a_body_that_cannot_be_read_gets_an_error(server: Running, path: str, body: bytes) -> None:
    web = await server.member("web")
    other = await server.client("other")
    assert (await other.call("POST", path, body)).status in (400, 404)
    assert not web.poll_ended


async def test_a_replayed_registration_of_another_machine_is_refused(server: Running) -> None:
    web = await server.member("web")
    thief = await server.client(Identity("web", node=web.identity.node))
    assert "another machine" in (await thief.register(BOOTSTRAP)).error
    assert await thief.poll() == 404
    assert not web.poll_ended


async def test_a_damaged_record_is_left_out_and_the_others_are_served(server: Running) -> None:
    web = await server.member("web")
    await server.member("office")
    await server.stop()
    engine = connect(parse_url(server.database))
    async with engine.begin() as connection:
        await connection.execute(sa.text("UPDATE nodes SET hostinfo = '{broken' WHERE name = 'office'"))
    await engine.dispose()
    await server.start()
    again = await server.client(web.identity)
    assert await again.poll() == 200
    assert again.peer("office") is None
    assert [node["name"] for node in (await server.api("GET", "/api/v1/nodes"))[1]["nodes"]] == ["web"]
    # Its id and addresses are not given to the next.
    late = await server.member("late")
    _, document = await server.api("GET", "/api/v1/nodes?name=late")
    assert document["nodes"][0]["id"] == 3
    assert late.netmap.self_node is not None


async def test_what_is_refused_for_its_token_is_not_done(server: Running) -> None:
    web = await server.member("web")
    for method, path, body in (
        ("DELETE", "/api/v1/nodes/1", None),
        ("PATCH", "/api/v1/nodes/1", {"name": "taken"}),
        ("POST", "/api/v1/users", {"name": "mallory"}),
        ("POST", "/api/v1/keys", {}),
    ):
        assert (await server.api(method, path, body, token="wrong"))[0] == 401
    assert (await server.api("GET", "/api/v1/nodes/1"))[1]["name"] == "web"
    assert [user["name"] for user in (await server.api("GET", "/api/v1/users"))[1]["users"]] == ["members"]
    assert not web.poll_ended


async def test_deleting_a_user_takes_that_users_keys_alone(server: Running) -> None:
    made: dict[str, str] = {}
    for name in ("alice", "bob"):
        await server.api("POST", "/api/v1/users", {"name": name})
        _, key = await server.api("POST", "/api/v1/keys", {"user": name, "reusable": True})
        made[name] = key["key"]
    assert (await server.api("DELETE", "/api/v1/users/alice"))[0] == 204
    web = await server.client("web")
    assert (await web.register(made["bob"])).error == ""
    office = await server.client("office")
    assert (await office.register(BOOTSTRAP)).error == ""
    home = await server.client("home")
    assert (await home.register(made["alice"])).error == "invalid pre-auth key"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


async def test_an_ephemeral_machine_whose_first_map_is_late_is_not_removed(start_server: StartServer) -> None:
    clock = Clock()
    server = await start_server(clock=clock)
    _, key = await server.api("POST", "/api/v1/keys", {"ephemeral": True, "reusable": True})
    job, silent = await server.client("job"), await server.client("silent")
    await job.register(key["key"])
    await silent.register(key["key"])
    clock.ahead = timedelta(seconds=110)
    assert await job.poll() == 200
    assert job.peer("silent") is not None
    clock.ahead = timedelta(seconds=500)
    # The one that never polled is gone, so whoever is idle was looked for.
    await job.until(lambda: job.peer("silent") is None)
    assert not job.poll_ended
    assert (await server.api("GET", "/api/v1/nodes?name=job"))[1]["nodes"] != []


async def test_a_dead_predecessor_gives_its_name_up(server: Running) -> None:
    web = await server.member("web")
    office = await server.member("office")
    await server.api("POST", "/api/v1/nodes/1/expire")
    # The same machine after a new installation has other keys.
    await server.member("web")
    await office.until(lambda: office.peer("web") is not None and office.peer("web-1") is not None)
    names = {node["name"]: node["id"] for node in (await server.api("GET", "/api/v1/nodes"))[1]["nodes"]}
    assert names == {"web-1": 1, "office": 2, "web": 3}
    # A living namesake keeps its name, and so does one whose name a person chose.
    third = await server.member("web")
    assert third.netmap.self_node is not None
    assert third.netmap.self_node.name.startswith("web-2.")
    assert web.identity.node.public != third.identity.node.public


async def test_a_chosen_name_outlives_its_machine(server: Running) -> None:
    await server.member("web")
    await server.api("PATCH", "/api/v1/nodes/1", {"name": "web"})
    await server.api("POST", "/api/v1/nodes/1/expire")
    successor = await server.member("web")
    assert successor.netmap.self_node is not None
    assert successor.netmap.self_node.name.startswith("web-1.")


async def test_the_end_of_a_stale_stream_does_not_take_a_router_away(server: Running) -> None:
    network = "10.9.0.0/16"
    router = Hostinfo(hostname="router", os="linux", routable_ips=(network,))
    stale = await server.client("router")
    register = {"hostinfo": router, "version": VERSION, "auth": RegisterAuth(auth_key=BOOTSTRAP)}
    assert (await stale.register(BOOTSTRAP, **register)).error == ""
    await stale.poll(hostinfo=router)
    await server.api("PATCH", "/api/v1/nodes/1", {"approved_routes": [network]})
    web = await server.member("web")

    def served() -> Any:
        peer = web.peer("router")
        return peer is not None and peer.online and peer.primary_routes == (network,)

    fresh = await server.client(stale.identity)
    await fresh.poll(hostinfo=router)
    await stale.close()
    # News after the end of the old connection, so that its end has been dealt with.
    await fresh.report(endpoints=("192.0.2.9:1",), hostinfo=router)
    await web.until(lambda: served() and web.peer("router").endpoints == ("192.0.2.9:1",))  # type: ignore[union-attr]
    assert (await server.api("GET", "/api/v1/nodes/1"))[1]["primary_routes"] == [network]
    assert json.loads(encode(router))["RoutableIPs"] == [network]
