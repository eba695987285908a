"""SSH connections under a `check` rule: held inside the encrypted channel until somebody decides."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import pytest

from support.control_client import ControlClient
from support.eventually import eventually
from warren_control import ssh_checks
from warren_control.transport import ssh_actions
from warren_runtime.tls import client_context

from .conftest import TOKEN, Running

WEB, LAPTOP = 1, 2


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Nothing of this is in the database, so one kind is enough."""
    return f"sqlite:///{tmp_path}/state/control.db"


def policy(period: str = "1h", action: str = "check") -> str:
    rule: dict[str, Any] = {
        "action": action,
        "src": ["autogroup:member"],
        "dst": ["autogroup:member"],
        "users": ["autogroup:nonroot"],
    }
    if action == "check":
        rule["checkPeriod"] = period
    return json.dumps({"ssh": [rule]})


async def put(server: Running, text: str) -> None:
    status, document = await server.api("PUT", "/api/v1/policy", {"text": text})
    assert status == 200, document


class Target:
    """The machine that is logged in to, asking as its client does."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def links(self) -> list[str]:
        """Where the rules of the map send a client."""
        policy = self._client.netmap.ssh_policy
        return [rule["action"]["holdAndDelegate"] for rule in policy.rules or ()] if policy else []

    async def ask(self, path: str) -> dict[str, Any]:
        answer = await self._client.call("GET", path)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)
        return found

    async def first(self, user: str = "web", source: int = LAPTOP) -> dict[str, Any]:
        return await self.ask(first_path(source, WEB, user))

    async def held(self, user: str = "web") -> str:
        """The path to ask again."""
        return path_of(await self.first(user))


def first_path(source: int, destination: int, user: str) -> str:
    return f"/machine/ssh/action/{source}/to/{destination}?local_user={quote(user)}"


def path_of(action: dict[str, Any]) -> str:
    parts = urlsplit(action["holdAndDelegate"])
    return f"{parts.path}?{parts.query}"


@pytest.fixture
async def target(server: Running) -> Target:
    await put(server, policy())
    web = await server.member("web")
    await server.member("laptop")
    return Target(web)


async def checks(server: Running) -> list[dict[str, Any]]:
    _, document = await server.api("GET", "/api/v1/ssh/checks")
    found: list[dict[str, Any]] = document["checks"]
    return found


async def decide(server: Running, verdict: str) -> Any:
    (check,) = await checks(server)
    status, document = await server.api("POST", f"/api/v1/ssh/checks/{check['id']}/{verdict}")
    assert status == 200, document
    return document


async def page(server: Running, check_id: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    url = f"https://127.0.0.1:{server.port}/ssh/check/{check_id}"
    method = "GET" if form is None else "POST"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=form, ssl=client_context(server.pair.certificate)) as response,
    ):
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        return response.status, await response.text()


async def test_an_approval_lets_the_held_connection_in_and_the_next_within_the_period(
    server: Running, target: Target, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = await target.first()
    assert "warren ssh approve" in first["message"]
    again = asyncio.create_task(target.ask(path_of(first)))
    (check,) = await checks(server)
    assert f"/ssh/check/{check['id']}" in first["message"]
    shown = {name: check[name] for name in ("user", "source", "destination", "login")}
    assert shown == {"user": "members", "source": "laptop", "destination": "web", "login": "web"}
    assert (await decide(server, "approve"))["verdict"] == "approved"
    assert (await again)["accept"] is True
    assert (await target.first())["accept"] is True
    assert await checks(server) == []
    assert "holdAndDelegate" in await target.first("other")
    lines = [record for record in caplog.records if record.message == "changed by an administrator"]
    assert lines[-1].__dict__["after"]["verdict"] == "approved"
    assert lines[-1].__dict__["who"] == "admin token"


async def test_a_denied_connection_is_refused_and_the_next_asks_again(
    server: Running, target: Target
) -> None:
    again = asyncio.create_task(target.ask(await target.held()))
    await decide(server, "deny")
    answer = await again
    assert answer["reject"] is True
    assert "denied" in answer["message"]
    assert "holdAndDelegate" in await target.first()


async def test_always_checks_each_connection(server: Running, target: Target) -> None:
    await put(server, policy("always"))
    again = asyncio.create_task(target.ask(await target.held()))
    await decide(server, "approve")
    assert (await again)["accept"] is True
    assert "holdAndDelegate" in await target.first()


async def test_a_hold_that_lasts_is_asked_again_without_another_message(
    server: Running, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_actions, "HOLD_SECONDS", 0.0)
    path = await target.held()
    answer = await target.ask(path)
    assert path_of(answer) == path
    assert "message" not in answer
    await decide(server, "approve")
    assert (await target.ask(path))["accept"] is True


async def test_a_decision_nobody_held_for_is_still_found(server: Running, target: Target) -> None:
    path = await target.held()
    await decide(server, "deny")
    assert (await target.ask(path))["reject"] is True


async def test_a_restart_asks_anew(server: Running, target: Target) -> None:
    path = await target.held()
    again = asyncio.create_task(target.ask(path))
    await decide(server, "approve")
    await again
    await server.stop()
    await server.start()
    web = await server.client(target._client.identity)
    await web.poll()
    assert "holdAndDelegate" in await Target(web).ask(path)


async def test_only_the_destination_may_ask(server: Running, target: Target) -> None:
    await server.api("PATCH", f"/api/v1/nodes/{LAPTOP}", {"name": "laptop"})
    laptop = server.clients[1]
    for path in (first_path(LAPTOP, WEB, "web"), first_path(LAPTOP, 99, "web")):
        assert (await laptop.call("GET", path)).status == 403
    assert await checks(server) == []


@pytest.mark.parametrize(
    "path",
    [
        "/machine/ssh/action/1/to/2",
        "/machine/ssh/action/1/to/2?local_user=",
        "/machine/ssh/action/1/to/2?local_user=" + "x" * 200,
        "/machine/ssh/action/1/to/x?local_user=web",
        "/machine/ssh/action/" + "9" * 40 + "/to/2?local_user=web",
        "/machine/ssh/action/1/to/2/3?local_user=web",
    ],
)
async def test_what_no_client_asks_is_refused(server: Running, target: Target, path: str) -> None:
    assert (await target._client.call("GET", path)).status == 400


async def test_nothing_is_held_that_no_rule_checks(server: Running, target: Target) -> None:
    assert (await target.first("root"))["reject"] is True
    assert (await target.first(source=99))["reject"] is True
    await put(server, policy(action="accept"))
    assert "policy has changed" in (await target.first())["message"]
    await server.api("DELETE", "/api/v1/policy")
    assert (await target.first())["reject"] is True
    assert await checks(server) == []


async def test_a_tagged_source_passes_no_check(server: Running, target: Target) -> None:
    rule = {"action": "check", "src": ["tag:ci"], "dst": ["tag:web"], "users": ["web"]}
    await put(server, json.dumps({"tagOwners": {"tag:ci": [], "tag:web": []}, "ssh": [rule]}))
    for number, name in ((WEB, "tag:web"), (LAPTOP, "tag:ci")):
        assert (await server.api("PATCH", f"/api/v1/nodes/{number}", {"tags": [name]}))[0] == 200
    assert "tagged" in (await target.first())["message"]


async def test_a_policy_that_changes_while_a_connection_waits_decides(
    server: Running, target: Target
) -> None:
    path = await target.held()
    again = asyncio.create_task(target.ask(path))
    (check,) = await checks(server)
    await put(server, policy(action="accept"))
    await server.api("POST", f"/api/v1/ssh/checks/{check['id']}/approve")
    assert (await again)["reject"] is True


async def test_the_map_sends_clients_to_the_path_that_is_served(target: Target) -> None:
    await eventually(lambda: bool(target.links()))
    (link,) = target.links()
    filled = link.replace("$SRC_NODE_ID", "2").replace("$DST_NODE_ID", "1").replace("$LOCAL_USER", "web")
    assert filled == "https://127.0.0.1:8443" + first_path(LAPTOP, WEB, "web")


async def test_the_page_decides_only_with_an_administrators_token(server: Running, target: Target) -> None:
    path = await target.held("a&b")
    again = asyncio.create_task(target.ask(path))
    (check,) = await checks(server)
    status, text = await page(server, check["id"])
    assert status == 200
    assert "a&amp;b" in text
    assert TOKEN not in text
    _, made = await server.api("POST", "/api/v1/tokens", {"scope": "read-only"})
    for wrong in ("", "guess", made["token"]):
        assert (await page(server, check["id"], {"token": wrong, "verdict": "approve"}))[0] == 403
    assert (await page(server, check["id"], {"token": TOKEN}))[0] == 400
    assert len(await checks(server)) == 1
    status, text = await page(server, check["id"], {"token": TOKEN, "verdict": "approve"})
    assert (status, "Approved" in text) == (200, True)
    assert (await again)["accept"] is True
    assert (await page(server, check["id"]))[0] == 404
    assert (await page(server, "unknown", {"token": TOKEN, "verdict": "deny"}))[0] == 404


async def test_guessing_tokens_is_slowed_down(server: Running, target: Target) -> None:
    await target.held()
    (check,) = await checks(server)
    wrong = {"token": "guess", "verdict": "approve"}
    seen = {(await page(server, check["id"], wrong))[0] for _ in range(40)}
    assert seen == {403, 429}


async def test_held_connections_leave_room_for_the_map_stream(server: Running, target: Target) -> None:
    path = await target.held()
    held = [asyncio.create_task(target.ask(path)) for _ in range(ssh_actions.MAX_HELD_OF_MACHINE)]
    await asyncio.sleep(0)
    answer = await target.ask(path)
    assert "too many" in answer["message"]
    await decide(server, "approve")
    assert all(one["accept"] for one in await asyncio.gather(*held))


async def test_what_one_machine_makes_wait_is_bounded_and_counted(server: Running, target: Target) -> None:
    for number in range(ssh_checks.MAX_CHECKS_OF_DESTINATION + 5):
        await target.first(f"user{number}")
    assert len(await checks(server)) == ssh_checks.MAX_CHECKS_OF_DESTINATION
    assert server.server is not None
    registry = server.server.metrics.registry
    assert registry.get_sample_value("warren_control_ssh_checks_waiting") == 32
    held = registry.get_sample_value("warren_control_ssh_checks_total", {"result": "held"})
    assert held == ssh_checks.MAX_CHECKS_OF_DESTINATION + 5


async def test_deciding_needs_an_administrator_and_a_check(server: Running, target: Target) -> None:
    await target.held()
    (check,) = await checks(server)
    _, made = await server.api("POST", "/api/v1/tokens", {"scope": "read-only"})
    path = f"/api/v1/ssh/checks/{check['id']}/approve"
    assert (await server.api("POST", path, token=made["token"]))[0] == 403
    assert (await server.api("GET", "/api/v1/ssh/checks", token=made["token"]))[0] == 200
    assert (await server.api("POST", "/api/v1/ssh/checks/unknown/approve"))[0] == 404
    assert (await server.api("POST", path))[0] == 200
    assert (await server.api("POST", path))[0] == 404
