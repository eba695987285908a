"""The agent's socket and the commands that ask it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from warren_agent import local_client
from warren_agent.errors import SetupError
from warren_agent.local_api import LocalApi
from warren_agent.local_client import RequestError, is_served
from warren_agent.paths.values import PingKind


async def ask(
    path: Path, method: str, question: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return await asyncio.to_thread(local_client.ask, path, method, question, body)


class Answers:
    def __init__(self) -> None:
        self.ended = False

    async def status(self) -> Mapping[str, Any]:
        return {"node": {"name": "home"}}

    async def ping(self, peer: str, kind: PingKind) -> Mapping[str, Any]:
        if peer != "office":
            raise RequestError(f"no member is called {peer}")
        return {"name": peer, "kind": kind.value, "answered": True}

    async def netcheck(self) -> Mapping[str, Any]:
        return {"udp": True}

    def down(self) -> None:
        self.ended = True


@pytest.fixture
async def answers(tmp_path: Path) -> AsyncIterator[Answers]:
    made = Answers()
    api = LocalApi(tmp_path / "run" / "agent.sock", made)
    await api.start()
    yield made
    await api.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "agent.sock"


async def test_questions_are_answered(answers: Answers, path: Path) -> None:
    assert await ask(path, "GET", "status") == {"node": {"name": "home"}}
    for question, kind in (({}, "disco"), ({"kind": "tsmp"}, "tsmp"), ({"kind": "icmp"}, "icmp")):
        answer = await ask(path, "POST", "ping", {"peer": "office", **question})
        assert answer == {"name": "office", "kind": kind, "answered": True}
    assert await ask(path, "POST", "netcheck", {}) == {"udp": True}
    assert not answers.ended
    await ask(path, "POST", "down")
    assert answers.ended


async def test_only_owner_and_group_may_ask(answers: Answers, path: Path) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660  # noqa: PTH116


async def test_a_question_without_answer_says_why(answers: Answers, path: Path) -> None:
    with pytest.raises(RequestError, match="no member is called printer"):
        await ask(path, "POST", "ping", {"peer": "printer"})
    with pytest.raises(RequestError, match="a name or an address is expected"):
        await ask(path, "POST", "ping", {"peer": 7})
    unknown: tuple[object, ...] = ("peerapi", 7, None, [])
    for other in unknown:
        with pytest.raises(RequestError, match="disco, tsmp, icmp is expected"):
            await ask(path, "POST", "ping", {"peer": "office", "kind": other})


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'"peer"', b"[" * 4000])
async def test_a_malformed_question_is_refused_and_disturbs_nobody(
    answers: Answers, path: Path, body: bytes
) -> None:
    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.post("http://agent/ping", data=body) as response:
            assert response.status == 400
            assert "error" in json.loads(await response.read())
        async with session.get("http://agent/status") as response:
            assert response.status == 200


async def test_a_second_agent_does_not_take_the_socket(answers: Answers, path: Path) -> None:
    with pytest.raises(SetupError, match="another agent answers"):
        await LocalApi(path, Answers()).start()
    assert await ask(path, "GET", "status") == {"node": {"name": "home"}}


async def test_a_socket_left_behind_is_taken_over_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    path.write_text("")
    assert not is_served(path)
    api = LocalApi(path, Answers())
    await api.start()
    await api.close()
    assert not path.exists()


async def test_without_an_agent_the_way_to_start_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="warren-agent up"):
        await ask(tmp_path / "agent.sock", "GET", "status")


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="set socket to another path"):
        await LocalApi(tmp_path / "file" / "agent.sock", Answers()).start()
