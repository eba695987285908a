"""Stock Tailscale clients without a network of their own: userspace networking, one folder each."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any


class StockClient:
    """One `tailscaled` and the commands of its user."""

    def __init__(self, folder: Path, programs: Path, login_server: str, ca_file: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self._daemon, self._cli = programs / "tailscaled", programs / "tailscale"
        self._login_server = login_server
        self._socket = folder / "ts.sock"
        self._environment = {**os.environ, "SSL_CERT_FILE": str(ca_file), "TS_NO_LOGS_NO_SUPPORT": "true"}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *, state: str | None = None) -> None:
        self.folder.mkdir(exist_ok=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("0.0.0.0", 0))
            port = sock.getsockname()[1]
        log = (self.folder / "log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            self._daemon,
            "--tun=userspace-networking",
            f"--state={state or self.folder / 'state'}",
            f"--statedir={self.folder}",
            f"--socket={self._socket}",
            f"--port={port}",
            env=self._environment,
            stdout=log,
            stderr=log,
        )
        log.close()
        await self.until(lambda _: True)

    async def stop(self, *, kill: bool = False) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        await self._process.wait()

    async def spawn(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self._cli,
            f"--socket={self._socket}",
            *arguments,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def run(self, *arguments: str, within: float = 40) -> tuple[int, str]:
        """Exit code and output of a command."""
        process = await self.spawn(*arguments)
        try:
            async with asyncio.timeout(within):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            output, _ = await process.communicate()
            return -1, output.decode()
        return process.returncode or 0, output.decode()

    def up_arguments(self, *arguments: str) -> list[str]:
        return ["up", f"--login-server={self._login_server}", f"--hostname={self.name}", *arguments]

    async def up(self, *arguments: str, within: float = 40) -> tuple[int, str]:
        return await self.run(*self.up_arguments(*arguments), within=within)

    async def ok(self, *arguments: str) -> str:
        code, output = await self.run(*arguments)
        assert code == 0, output
        return output

    async def status(self) -> dict[str, Any]:
        code, output = await self.run("status", "--json")
        found: dict[str, Any] = json.loads(output) if output.startswith("{") else {}
        return found if found else {"BackendState": f"exit {code}"}

    async def until(
        self, condition: Callable[[dict[str, Any]], object], within: float = 30
    ) -> dict[str, Any]:
        """The first status for which the condition holds."""
        status: dict[str, Any] = {}
        try:
            async with asyncio.timeout(within):
                while True:
                    status = await self.status()
                    if not status["BackendState"].startswith("exit") and condition(status):
                        return status
                    await asyncio.sleep(0.1)
        except TimeoutError:
            shown = json.dumps(status)[-1500:]
            raise AssertionError(f"{self.name} never got there; its last status: {shown}") from None


def peer(status: dict[str, Any], name: str) -> dict[str, Any]:
    """What a status says of the peer of that name."""
    found = (each for each in (status.get("Peer") or {}).values() if each["DNSName"].startswith(f"{name}."))
    return dict(next(found, {}))
