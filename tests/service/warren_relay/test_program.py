"""`warren-relay serve` as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from support.certificates import self_signed
from support.derp import DerpSession
from warren_relay import metrics
from warren_relay.admission import AdmissionResult
from warren_runtime.tls import client_context
from warren_wire import stun
from warren_wire.derp.client import PacketReceived, Restarting


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "warren_relay",
        "serve",
        "--log-json",
        "true",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "WARREN_RELAY_ADMISSION_MODE": "open"},
    )


@asynccontextmanager
async def relay(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The running program, after it said that it serves."""
    process = await start(*arguments)
    assert process.stderr is not None
    try:
        async for line in process.stderr:
            if json.loads(line)["message"] == "relay is serving":
                break
        else:
            raise AssertionError("the relay ended")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_whole_program(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "localhost")
    derp, health, stun_port = free_port(), free_port(), free_port()
    key_file = tmp_path / "state" / "derp.key"
    arguments = (
        f"--listen=127.0.0.1:{derp}",
        f"--health-listen=127.0.0.1:{health}",
        f"--stun-listen=127.0.0.1:{stun_port}",
        f"--tls-certificate={pair.certificate}",
        f"--tls-key={pair.key}",
        f"--derp-key-file={key_file}",
    )
    tls = client_context(pair.certificate)
    async with relay(*arguments) as process:
        async with (
            await DerpSession.connect(derp, tls=tls) as home,
            await DerpSession.connect(derp, tls=tls) as office,
            aiohttp.ClientSession() as session,
        ):
            await home.send(office.key, b"over the program")
            assert await office.expect(PacketReceived) == (home.key, b"over the program")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.connect(("127.0.0.1", stun_port))
                sock.send(stun.binding_request(bytes(12)))
                answer = await asyncio.get_running_loop().sock_recv(sock, 2048)
            assert stun.parse_binding_response(answer)[0] == bytes(12)
            for path in ("health", "ready"):
                async with session.get(f"http://127.0.0.1:{health}/{path}") as response:
                    assert response.status == 200
            async with session.get(f"http://127.0.0.1:{health}/metrics") as response:
                lines = (await response.text()).splitlines()
            assert f"{metrics.PREFIX}_packets_sent_total 1.0" in lines
            assert f'{metrics.PREFIX}_stun_requests_total{{result="success"}} 1.0' in lines
            process.send_signal(signal.SIGTERM)
            await home.expect(Restarting)
            with pytest.raises(ConnectionError):
                await home.next_event()
        assert await process.wait() == 0
    assert key_file.stat().st_mode & 0o777 == 0o600


BAD = [
    (("--listen=nonsense",), "listen: must be ADDRESS:PORT"),
    (("--config=/nonexistent/relay.yaml",), "No such file"),
    (("--tls-certificate=/nonexistent.crt", "--tls-key=/nonexistent.key"), "cannot use certificate"),
    (("--admission-mode=members",), "admission.verify_url: is required"),
    (("--derp-key-file=/dev/null/derp.key",), "key file"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD)
async def test_bad_settings_end_with_one_line_and_code_2(
    arguments: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    key_file = f"--derp-key-file={tmp_path / 'derp.key'}"
    process = await start(key_file, "--stun-listen=off", "--health-listen=off", *arguments)
    _, errors = await process.communicate()
    lines = [line for line in errors.decode().splitlines() if line.startswith("warren-relay: ")]
    assert process.returncode == 2
    assert len(lines) == 1
    assert text in lines[0]
    assert b"Traceback" not in errors


def test_admission_results_have_metric_labels() -> None:
    assert {result.value for result in AdmissionResult} >= {"allowed", "refused"}
