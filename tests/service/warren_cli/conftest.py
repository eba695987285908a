"""A real control server on its local socket, and the command that talks to it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from warren_control import config
from warren_control.app import ControlServer
from warren_control.metrics import ControlMetrics

Warren = Callable[..., Coroutine[Any, Any, str]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ControlServer]:
    settings = {
        "server_url": "http://127.0.0.1:8080",
        "listen": "127.0.0.1:0",
        "database": f"sqlite:///{tmp_path}/control.db",
        "noise_key_file": str(tmp_path / "noise.key"),
        "derp_key_file": str(tmp_path / "derp.key"),
        "admin_socket": str(tmp_path / "control.sock"),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    running = ControlServer(config.parse(settings), metrics=ControlMetrics(CollectorRegistry()))
    await running.start()
    task = asyncio.create_task(running.run(), name="control server")
    yield running
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await running.stop()


@pytest.fixture
def warren(server: ControlServer, tmp_path: Path) -> Warren:
    """Runs the command; what it says on both outputs comes back."""
    program = [sys.executable, "-m", "warren_cli", "--server", f"unix:{tmp_path}/control.sock"]

    async def run(
        *arguments: str, code: int = 0, given: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> str:
        process = await asyncio.create_subprocess_exec(
            *program,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "WARREN": " ".join(program), **(environment or {})},
        )
        output, _ = await process.communicate(given)
        assert process.returncode == code, output.decode()
        return output.decode()

    return run
