"""Machines without a key: a link, a page, a person's decision, and the request that waits for it."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import aiohttp

from support.control_client import Identity
from warren_runtime.tls import client_context
from warren_wire.control.messages import Hostinfo
from warren_wire.keys import NodePrivate

from .conftest import BOOTSTRAP, Running


async def _page(server: Running, pending_id: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            f"https://127.0.0.1:{server.port}/register/{pending_id}",
            ssl=client_context(server.pair.certificate),
        ) as response,
    ):
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        return response.status, await response.text()


async def _pending(server: Running) -> list[dict[str, Any]]:
    _, document = await server.api("GET", "/api/v1/pending")
    found: list[dict[str, Any]] = document["pending"]
    return found


async def test_a_person_lets_a_machine_in_and_its_request_is_answered(server: Running) -> None:
    await server.api("POST", "/api/v1/users", {"name": "alice", "display_name": "Alice"})
    web = await server.client("web")
    url = (await web.register()).auth_url
    assert url.startswith("https://127.0.0.1:8443/register/")
    assert (await web.register()).auth_url == url
    waiting = asyncio.create_task(web.register(followup=url))
    (pending,) = await _pending(server)
    assert (pending["hostname"], pending["os"], pending["source"]) == ("web", "linux", "127.0.0.1")
    status, node = await server.api("POST", f"/api/v1/pending/{pending['id']}/approve", {"user": "alice"})
    assert (status, node["name"]) == (200, "web")
    answer = await waiting
    assert (answer.error, answer.auth_url) == ("", "")
    assert answer.login is not None
    assert answer.login.login_name == "alice"
    await web.poll()
    assert web.netmap.self_node is not None
    assert {profile.login_name for profile in web.netmap.user_profiles.values()} == {"alice"}
    assert await _pending(server) == []


async def test_the_page_says_what_to_do_and_shows_strangers_nothing_else(server: Running) -> None:
    web = await server.client("web")
    hostile = Hostinfo(hostname="<script>alert(1)</script>", os="linux")
    url = (await web.register(hostinfo=hostile)).auth_url
    pending_id = url.rpartition("/")[2]
    status, text = await _page(server, pending_id)
    assert status == 200
    assert f"warren nodes approve {pending_id}" in text
    assert "<script>" not in text
    assert (await _page(server, "unknown"))[0] == 404


async def test_a_refused_machine_is_told(server: Running) -> None:
    web = await server.client("web")
    url = (await web.register()).auth_url
    waiting = asyncio.create_task(web.register(followup=url))
    (pending,) = await _pending(server)
    assert (await server.api("DELETE", f"/api/v1/pending/{pending['id']}"))[0] == 204
    assert "refused" in (await waiting).error


async def test_an_unknown_follow_up_gets_another_link(server: Running) -> None:
    web = await server.client("web")
    answer = await web.register(followup="https://127.0.0.1:8443/register/gone")
    assert answer.auth_url not in ("", "https://127.0.0.1:8443/register/gone")


async def test_a_follow_up_of_another_machine_learns_nothing(server: Running) -> None:
    web = await server.client("web")
    url = (await web.register()).auth_url
    thief = await server.client("thief")
    assert (await thief.register(followup=url)).auth_url not in ("", url)


async def test_a_follow_up_that_is_given_up_can_be_asked_again(server: Running) -> None:
    identity = Identity("web")
    web = await server.client(identity)
    url = (await web.register()).auth_url
    task = asyncio.create_task(web.register(followup=url))
    await _pending(server)
    await web.close()
    task.cancel()
    web = await server.client(identity)
    (pending,) = await _pending(server)
    await server.api("POST", f"/api/v1/pending/{pending['id']}/approve", {})
    assert (await web.register(followup=url)).error == ""


async def test_requested_tags_are_given_unless_the_administrator_names_others(server: Running) -> None:
    asked = Hostinfo(hostname="web", request_tags=("tag:web", "nonsense"))
    for wish, tags in (({}, ["tag:web"]), ({"tags": ["tag:db"]}, ["tag:db"]), ({"tags": []}, [])):
        web = await server.client("web")
        await web.register(hostinfo=asked)
        (pending,) = await _pending(server)
        assert pending["requested_tags"] == ["tag:web"]
        _, made = await server.api("POST", f"/api/v1/pending/{pending['id']}/approve", wish)
        _, node = await server.api("GET", f"/api/v1/nodes/{made['id']}")
        assert node["tags"] == tags


async def test_approving_another_users_machine_makes_a_second_node(server: Running) -> None:
    await server.api("POST", "/api/v1/users", {"name": "bob"})
    web = await server.member("web")
    web.identity.node = NodePrivate.from_seed(bytes(range(32)))
    await web.register()
    (pending,) = await _pending(server)
    _, made = await server.api("POST", f"/api/v1/pending/{pending['id']}/approve", {"user": "bob"})
    assert (made["id"], made["name"]) == (2, "web-1")
    _, first = await server.api("GET", "/api/v1/nodes/1")
    assert first["user"] == "members"


async def test_users_own_keys_and_nodes_and_leave_only_without_nodes(server: Running) -> None:
    assert (await server.api("POST", "/api/v1/users", {"name": "Alice@Example.net"}))[0] == 201
    assert (await server.api("POST", "/api/v1/users", {"name": "alice@example.net"}))[0] == 409
    assert (await server.api("POST", "/api/v1/users", {"name": "not a name"}))[0] == 422
    assert (await server.api("POST", "/api/v1/keys", {"user": "nobody"}))[0] == 404
    _, key = await server.api("POST", "/api/v1/keys", {"user": "alice@example.net"})
    _, other = await server.api("POST", "/api/v1/keys", {})
    web = await server.client("web")
    await web.register(key["key"])
    assert (await server.api("DELETE", "/api/v1/users/alice@example.net"))[0] == 409
    await server.api("DELETE", "/api/v1/nodes/1")
    assert (await server.api("DELETE", "/api/v1/users/alice@example.net"))[0] == 204
    _, document = await server.api("GET", "/api/v1/keys")
    left = {found["id"] for found in document["keys"] if not found["bootstrap"]}
    # Another user's key outlives it.
    assert left == {other["id"]}
    assert (await server.api("DELETE", "/api/v1/users/members"))[0] == 409


async def test_users_survive_a_restart_and_their_ids_are_not_given_again(server: Running) -> None:
    _, alice = await server.api("POST", "/api/v1/users", {"name": "alice"})
    await server.api("POST", "/api/v1/users", {"name": "bob"})
    await server.api("DELETE", "/api/v1/users/bob")
    await server.stop()
    await server.start()
    _, document = await server.api("GET", "/api/v1/users")
    assert [user["name"] for user in document["users"]] == ["members", "alice"]
    _, carol = await server.api("POST", "/api/v1/users", {"name": "carol"})
    assert carol["id"] == alice["id"] + 2


async def test_a_renamed_user_is_shown_by_peers(server: Running) -> None:
    web = await server.member("web")
    await server.member("office")
    await server.api("PATCH", "/api/v1/users/members", {"name": "crew"})
    await web.until(lambda: "crew" in {profile.login_name for profile in web.netmap.user_profiles.values()})


async def test_wrong_keys_are_limited_by_address_and_a_logout_is_not(server: Running) -> None:
    web = await server.member("web")
    for _ in range(31):
        answer = await web.send_register(
            "warren-auth-wrong", node_key=NodePrivate.from_seed(bytes(32)).public
        )
    assert answer.status == 429
    assert (await web.send_register(BOOTSTRAP, expiry=web.messages[0].control_time)).status == 200


async def test_the_first_machine_of_a_user_makes_clients_start_afresh(server: Running) -> None:
    await server.api("POST", "/api/v1/users", {"name": "alice"})
    _, key = await server.api("POST", "/api/v1/keys", {"user": "alice", "reusable": True})
    web = await server.member("web")
    for name, afresh in (("first", True), ("second", False)):
        before = len(web.messages)
        await (await server.client(name)).register(key["key"])
        await web.until(functools.partial(web.peer, name))
        assert any(message.domain for message in web.messages[before:]) is afresh
