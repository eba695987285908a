"""Machines that come and go leave nothing behind in a running server."""

from __future__ import annotations

import asyncio
import collections
import gc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.control_client import ControlClient, Identity
from support.eventually import eventually
from warren_control.model import Node
from warren_control.transport.connection import Connection, StreamResponder
from warren_wire.control.session import ServerSession

from .conftest import BOOTSTRAP, Running, StartServer

ROUNDS = 5
AT_A_TIME = 10
EACH_ROUND = 100
# The loop may still hold a connection that has just ended, and caches the nodes that were there at the last
# first map; leaks would be hundreds.
JUST_ENDED = 4 * AT_A_TIME
# Two of a connection and its poll; their client's own are not counted.
TASKS_OF_A_CLIENT = 2


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/control.db"


def tasks_of_the_server() -> int:
    return sum(not task.get_name().startswith("client ") for task in asyncio.all_tasks())


def holdings() -> dict[str, int]:
    """What grows with clients, counted now."""
    gc.collect()
    kinds = (Connection, StreamResponder, ServerSession, Node)
    counts = collections.Counter(type(one) for one in gc.get_objects() if isinstance(one, kinds))
    files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return {
        "files": files,
        "tasks": tasks_of_the_server(),
        **{kind.__name__: counts[kind] for kind in kinds},
    }


async def pass_by(server: Running, name: str) -> None:
    """Joins, takes its first map, and deletes itself."""
    async with ControlClient(Identity(name), server.port, None) as client:
        await client.register(BOOTSTRAP, ephemeral=True)
        await client.poll()
        await client.register(BOOTSTRAP, ephemeral=True, expiry=datetime.now(UTC) - timedelta(days=1))


async def churn(server: Running, turn: int) -> None:
    gate = asyncio.Semaphore(AT_A_TIME)

    async def one(number: int) -> None:
        async with gate:
            await pass_by(server, f"passing-{turn}-{number}")

    await asyncio.gather(*(one(number) for number in range(EACH_ROUND)))


async def test_hundreds_of_machines_that_come_and_go_leave_only_the_note_that_they_are_gone(
    start_server: StartServer,
) -> None:
    server = await start_server(tls=None, server_url="http://127.0.0.1:8080")
    assert server.server is not None
    store = server.server.store
    async with ControlClient(Identity("member"), server.port, None) as member:
        await member.register(BOOTSTRAP)
        await member.poll()
        alone = tasks_of_the_server()
        await churn(server, 0)
        # A connection ends a moment after its client closed it.
        await eventually(lambda: tasks_of_the_server() == alone)
        before = holdings()
        for turn in range(1, ROUNDS):
            await churn(server, turn)
        await eventually(lambda: tasks_of_the_server() == alone)
        after = holdings()
        tombstones = (ROUNDS - 1) * EACH_ROUND
        assert len(store.snapshot.nodes) == 1
        before["Node"] += tombstones
        assert {name: count for name, count in after.items() if count > before[name] + JUST_ENDED} == {}
        await member.until(lambda: not member.netmap.peers)


async def test_a_connected_client_is_two_tasks(start_server: StartServer) -> None:
    server = await start_server(tls=None, server_url="http://127.0.0.1:8080")
    clients = []
    counts = []
    for number in range(6):
        client = ControlClient(Identity(f"member-{number}"), server.port, None)
        await client.connect()
        server.clients.append(client)
        await client.register(BOOTSTRAP)
        await client.poll()
        clients.append(client)
        counts.append(tasks_of_the_server())
    assert counts[-1] - counts[0] == TASKS_OF_A_CLIENT * (len(clients) - 1)
