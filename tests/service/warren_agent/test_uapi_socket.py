"""The UAPI shell against programs on a Unix socket that behave well, badly, or not at all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.members import networks, node_key, node_private
from warren_agent.kernel.interfaces import PeerConfig, WireGuardError
from warren_agent.kernel.uapi import MAX_LINE_BYTES, UapiWireGuard

Behaviour = Callable[[str], bytes | None]
DEVICE = f"private_key={node_private('home').raw.hex()}\nlisten_port=41641\nfwmark=256\n"


@asynccontextmanager
async def program(path: Path, behave: Behaviour) -> AsyncIterator[list[str]]:
    """Answers each request with the bytes that `behave` gives, or hangs up for None. Yields the requests."""
    requests: list[str] = []
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while True:
                request = (await reader.readuntil(b"\n\n")).decode()
                requests.append(request)
                answer = behave(request)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield requests
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(quietly(writer.wait_closed()) for writer in writers))
        os.unlink(path)  # noqa: PTH108


async def quietly(waiting: Awaitable[None]) -> None:
    try:
        await waiting
    except ConnectionError:
        pass


def well_behaved(request: str) -> bytes:
    return (DEVICE if request.startswith("get=1") else "").encode() + b"errno=0\n\n"


@pytest.fixture
async def wireguard(tmp_path: Path) -> AsyncIterator[UapiWireGuard]:
    device = UapiWireGuard(tmp_path / "wg.sock")
    yield device
    await device.close()


async def test_only_settings_that_differ_are_written(tmp_path: Path, wireguard: UapiWireGuard) -> None:
    async with program(tmp_path / "wg.sock", well_behaved) as requests:
        await wireguard.configure(node_private("home"), 41641, 256)
        await wireguard.configure(node_private("home"), 41642, 256)
        assert [request for request in requests if request.startswith("set=1")] == [
            "set=1\n\n",
            "set=1\nlisten_port=41642\n\n",
        ]


async def test_a_restarted_program_is_found_again(tmp_path: Path, wireguard: UapiWireGuard) -> None:
    for _ in range(2):
        async with program(tmp_path / "wg.sock", well_behaved):
            assert (await wireguard.device()).listen_port == 41641


async def test_requests_of_many_tasks_do_not_mix(tmp_path: Path, wireguard: UapiWireGuard) -> None:
    async with program(tmp_path / "wg.sock", well_behaved):
        states = await asyncio.gather(*(wireguard.device() for _ in range(20)))
        assert {state.listen_port for state in states} == {41641}


async def test_a_cancelled_request_does_not_spoil_the_next(tmp_path: Path, wireguard: UapiWireGuard) -> None:
    async with program(
        tmp_path / "wg.sock", lambda request: b"" if "update_only" in request else well_behaved(request)
    ):
        hanging = asyncio.create_task(wireguard.update([PeerConfig(node_key("office"), ())], []))
        await asyncio.sleep(0)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        assert (await wireguard.device()).listen_port == 41641


async def test_no_program_is_said_in_plain_words(tmp_path: Path, wireguard: UapiWireGuard) -> None:
    with pytest.raises(WireGuardError, match=r"no WireGuard program answers at .*: No such file"):
        await wireguard.peers()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"errno=-98\n\n", "Address already in use"),
        (b"errno=many\n\n", "refused a request"),
        (b"\n", "does not say why"),
        (b"nonsense\nerrno=0\n\n", "not understood"),
        (b"public_key=12\nerrno=0\n\n", "not understood"),
        (b"\xff\xfe=\x00\nerrno=0\n\n", None),
        (b"x" * (MAX_LINE_BYTES + 2), "line without end"),
        (None, "no WireGuard program answers"),
    ],
)
async def test_a_bad_answer_is_an_error_and_the_next_request_works(
    tmp_path: Path, wireguard: UapiWireGuard, answer: bytes | None, words: str | None
) -> None:
    async with program(tmp_path / "wg.sock", lambda _: answer):
        if words is None:
            await wireguard.device()
        else:
            with pytest.raises(WireGuardError, match=words):
                await wireguard.device()
    async with program(tmp_path / "wg.sock", well_behaved):
        await wireguard.update([PeerConfig(node_key("office"), networks("10.2.0.0/16"))], [])
