"""The program as a process: it survives being killed, ends on SIGTERM, says what is wrong."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
import yaml

from support.certificates import Pair, self_signed
from support.control_client import ControlClient, Identity
from warren_runtime.tls import client_context

PROGRAM = (sys.executable, "-m", "warren_control")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Program:
    """`warren-control serve` as a child process."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        self.port, self.health = _free_port(), _free_port()
        self.file = folder / "config.yaml"
        self.file.write_text(
            yaml.safe_dump(
                {
                    "server_url": f"https://127.0.0.1:{self.port}",
                    "listen": f"127.0.0.1:{self.port}",
                    "health_listen": f"127.0.0.1:{self.health}",
                    "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
                    "database": f"sqlite:///{folder}/state/control.db",
                    "noise_key_file": str(folder / "state/noise.key"),
                    "derp_key_file": str(folder / "state/derp.key"),
                    "relay": {"enabled": True, "stun_listen": "127.0.0.1:0"},
                }
            )
        )
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *PROGRAM, "serve", "--config", str(self.file), stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            while not await self._ready():
                assert self.process.returncode is None
                await asyncio.sleep(0.05)

    async def _ready(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.health}/ready") as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def end(self, by: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(by)
        async with asyncio.timeout(30):
            await self.process.communicate()
        return self.process.returncode or 0

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments, "--config", str(self.file)], capture_output=True, text=True, check=False
        )


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return self_signed(tmp_path, "control")


async def test_a_killed_server_comes_back_with_all_nodes(tmp_path: Path, pair: Pair) -> None:
    program = Program(tmp_path, pair)
    made = program.run("keys", "create", "--reusable")
    assert made.returncode == 0, made.stderr
    key, identities = made.stdout.strip(), [Identity("web"), Identity("office")]
    tls = client_context(pair.certificate)
    await program.start()
    for identity in identities:
        async with ControlClient(identity, program.port, tls) as client:
            assert (await client.register(key)).error == ""
    assert await program.end(signal.SIGKILL) == -signal.SIGKILL
    await program.start()
    async with ControlClient(identities[0], program.port, tls) as web:
        assert await web.poll() == 200
        assert web.peer("office") is not None
        async with ControlClient(identities[1], program.port, tls) as office:
            assert await office.poll() == 200
            await web.until(lambda: (peer := web.peer("office")) is not None and peer.online is True)
            assert await program.end(signal.SIGTERM) == 0
            await web.until(lambda: web.poll_ended)


def test_a_configuration_that_cannot_be_used_is_explained(tmp_path: Path, pair: Pair) -> None:
    program = Program(tmp_path, pair)
    assert program.run("config", "check").returncode == 0
    program.file.write_text("server_url: http://203.0.113.10\nlisten: x\n")
    result = program.run("serve")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 2
    assert "Traceback" not in result.stderr


def test_a_check_looks_at_the_files_and_the_database_too(tmp_path: Path, pair: Pair) -> None:
    program = Program(tmp_path, pair)
    settings = yaml.safe_load(program.file.read_text())
    (tmp_path / "short").write_text("short")
    (tmp_path / "records").write_text("[{}]")
    (tmp_path / "text.db").write_text("no database, but long enough to be taken for one " * 20)
    settings |= {
        "tls": {"certificate": str(pair.certificate), "key": str(tmp_path / "missing.key")},
        "admin_token_file": str(tmp_path / "short"),
        "dns": {"extra_records_file": str(tmp_path / "records")},
        "policy": {"file": str(tmp_path / "missing.hujson")},
        "database": f"sqlite:///{tmp_path}/text.db",
    }
    program.file.write_text(yaml.safe_dump(settings))
    result = program.run("config", "check")
    assert result.returncode == 2
    told = [line.removeprefix("warren-control: ").partition(": ")[0] for line in result.stderr.splitlines()]
    assert told == ["tls", "admin_token_file", "policy.file", "dns.extra_records_file", "database"]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "noise.key").exists()


async def test_a_database_without_its_key_does_not_start(tmp_path: Path, pair: Pair) -> None:
    program = Program(tmp_path, pair)
    assert program.run("keys", "list").returncode == 0
    (tmp_path / "state/noise.key").unlink()
    result = program.run("serve")
    assert result.returncode == 2
    assert "locked out" in result.stderr


async def test_a_taken_port_is_named(tmp_path: Path, pair: Pair) -> None:
    program = Program(tmp_path, pair)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", program.port))
        taken.listen()
        result = await asyncio.to_thread(program.run, "serve")
    assert result.returncode == 2
    assert "in use" in result.stderr


async def test_faults_at_the_port_are_counted(tmp_path: Path, pair: Pair) -> None:
    program = Program(tmp_path, pair)
    await program.start()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", program.port, ssl=client_context(pair.certificate)
    )
    writer.write(b"\x00nonsense\r\n\r\n")
    assert b" 400 " in await reader.read()
    writer.close()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{program.health}/metrics") as response,
    ):
        text = await response.text()
    assert 'warren_control_connection_faults_total{reason="malformed"} 1.0' in text
    assert "warren_control_relay_clients 0.0" in text
    assert await program.end(signal.SIGTERM) == 0


async def test_a_policy_is_checked_without_a_server_and_with_its_records(tmp_path: Path, pair: Pair) -> None:
    program = Program(tmp_path, pair)
    file = tmp_path / "policy.hujson"
    file.write_text('{\n  "grants": [{"src": ["*"], "dst": ["tag:web"], "ip": ["*"]}],\n}\n')

    def check(*arguments: str) -> tuple[int, str]:
        command = [*PROGRAM, "policy", "check", str(file), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, output = check()
    assert (code, output.startswith(f"{file}:2:")) == (1, True), output
    text = '{"tests": [{"src": "members@", "accept": ["100.64.0.1:22"]}]}'
    file.write_text(text)
    assert check() == (0, f"{file} is valid; its own tests were not run\n")
    assert not (tmp_path / "state").exists()
    assert program.run("keys", "list").returncode == 0
    code, output = check("--config", str(program.file))
    assert code == 1
    assert f"{file}:1:1: tests[0]" in output
    file.write_bytes(b"{}\xff")
    assert "invalid UTF-8" in check()[1]
    file.unlink()
    assert check()[0] == 2
