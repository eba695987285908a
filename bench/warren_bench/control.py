"""Control servers under simulated clients: what joins and changes cost, ours and Headscale's."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import click
import uvloop
import yaml

from warren_bench import frame
from warren_bench.frame import Row
from warren_bench.swarm import HOST, Keys, Swarm
from warren_lab import tools
from warren_lab.tools import Printer

SIZES: Final = (100, 300, 1000)
# Beyond this Headscale drops streams and takes many minutes for the joins.
PEER_SIZES: Final = (100, 300)
CHANGES: Final = 5
START_SECONDS: Final = 60.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Server(Protocol):
    """A control server under test."""

    port: int
    process: subprocess.Popen[bytes]

    def auth_key(self) -> str: ...
    def rename(self, name: str) -> None:
        """Gives the first node another name."""
        ...


@dataclass(frozen=True, slots=True)
class Figures:
    """What one server did with one swarm."""

    join_seconds: float
    join_cpu: float
    change_seconds: float
    change_cpu: float
    rename_seconds: float
    rename_cpu: float
    megabytes: float
    dropped: int


class Warren:
    """`warren-control serve`."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._socket = folder / "control.sock"
        self._file = folder / "config.yaml"
        settings = {
            "server_url": f"http://{HOST}:{self.port}",
            "listen": f"{HOST}:{self.port}",
            "database": f"sqlite:///{folder}/control.db",
            "noise_key_file": str(folder / "noise.key"),
            "derp_key_file": str(folder / "derp.key"),
            "admin_socket": str(self._socket),
            "regions": [_region()],
        }
        self._file.write_text(yaml.safe_dump(settings))
        self._log = (folder / "log").open("ab")
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "warren_control", "serve", "--config", str(self._file)]
        self.process = subprocess.Popen(command, stderr=self._log)
        _wait_for(self.port, self.process)

    def auth_key(self) -> str:
        command = [sys.executable, "-m", "warren_control", "keys", "create", "--reusable"]
        return _output([*command, "--config", str(self._file)]).strip()

    def rename(self, name: str) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            body = json.dumps({"name": name})
            head = f"PATCH /api/v1/nodes/1 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall((head + body).encode())
            if b" 200 " not in connection.recv(4096):
                raise RuntimeError("the server did not rename the node")


class Headscale:
    """`headscale serve`."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.port, self._program = _free_port(), program
        self._file = folder / "config.yaml"
        region = _region()
        node = {
            "name": "900a",
            "regionid": 900,
            "hostname": HOST,
            "ipv4": HOST,
            "stunport": -1,
            "derpport": 1,
        }
        derp = {
            "regions": {
                900: {
                    "regionid": 900,
                    "regioncode": region["RegionCode"],
                    "regionname": "Home",
                    "nodes": [node],
                }
            }
        }
        (folder / "derp.yaml").write_text(yaml.safe_dump(derp))
        settings = {
            "server_url": f"http://{HOST}:{self.port}",
            "listen_addr": f"{HOST}:{self.port}",
            "metrics_listen_addr": f"{HOST}:{_free_port()}",
            "grpc_listen_addr": f"{HOST}:{_free_port()}",
            "noise": {"private_key_path": str(folder / "noise.key")},
            "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48", "allocation": "sequential"},
            "derp": {"server": {"enabled": False}, "urls": [], "paths": [str(folder / "derp.yaml")]},
            "database": {
                "type": "sqlite",
                "sqlite": {"path": str(folder / "db.sqlite"), "write_ahead_log": True},
            },
            "dns": {"magic_dns": True, "base_domain": "mesh.internal", "override_local_dns": False},
            "unix_socket": str(folder / "headscale.sock"),
            "log": {"level": "error"},
            "disable_check_updates": True,
            "policy": {"mode": "file", "path": ""},
        }
        self._file.write_text(yaml.safe_dump(settings))
        log = (folder / "log").open("ab")
        self.process = subprocess.Popen([program, "-c", self._file, "serve"], stdout=log, stderr=log)
        _wait_for(self.port, self.process)

    def auth_key(self) -> str:
        self._run("users", "create", "members")
        made = self._run(
            "preauthkeys", "create", "--user", "1", "--reusable", "--expiration", "24h", "-o", "json"
        )
        return str(json.loads(made)["key"])

    def rename(self, name: str) -> None:
        self._run("nodes", "rename", "-i", "1", name)

    def _run(self, *arguments: str) -> str:
        return _output([str(self._program), "-c", str(self._file), *arguments])


def rows(runs: int) -> list[Row]:
    """One run for each size: a join of a thousand is its own average."""
    headscale = tools.ensure(("headscale",), Printer()).path("headscale")
    found: list[Row] = []
    for size in SIZES:
        ours = _measured(size, None)
        peer = _measured(size, headscale) if size in PEER_SIZES else None
        found += _rows(size, ours, peer)
    found += [frame.row(f"{SIZES[-1]}: restart until all are back", _restart(SIZES[-1]), "s", goal=None)]
    return found


def _rows(size: int, ours: Figures, peer: Figures | None) -> list[Row]:
    def one(work: str, unit: str, name: str, goal: str | None = None) -> Row:
        there = float(getattr(peer, name)) if peer is not None else None
        mine = float(getattr(ours, name))
        return frame.row(f"{size}: {work}", mine, unit, peer=there, peer_name="headscale", goal=goal)

    goals = size == 300
    return [
        one("all joined", "s", "join_seconds"),
        one("server's processor time for the joins", "s", "join_cpu", "<= 0.1" if goals else None),
        one("endpoint change, last client heard", "s", "change_seconds"),
        one("endpoint change, processor time", "s", "change_cpu", "<= 0.34" if goals else None),
        one("rename, last client heard", "s", "rename_seconds"),
        one("rename, processor time", "s", "rename_cpu"),
        one("resident", "MB", "megabytes"),
        one("streams dropped", "", "dropped"),
    ]


def _measured(size: int, headscale: Path | None) -> Figures:
    name = "headscale" if headscale else "warren"
    click.echo(f"{name}: {size} clients", err=True)
    with _server(headscale) as server:
        figures = uvloop.run(_measure(server, size))
    click.echo(f"{name}: {figures}", err=True)
    return figures


async def _measure(server: Server, size: int) -> Figures:
    key = server.auth_key()
    swarm = Swarm(server.port)
    began, cpu = time.monotonic(), _cpu(server.process.pid)
    await swarm.join(_keys(size), key)
    join_seconds = time.monotonic() - began
    await swarm.quiet()
    join_cpu = _cpu(server.process.pid) - cpu
    changes, change_cpu = [], _cpu(server.process.pid)
    for number in range(CHANGES):
        endpoint = f"198.51.100.{number + 1}:4242"
        report = functools.partial(swarm.clients[0].report, [endpoint])
        changes.append(await swarm.spread(endpoint, report, without=0))
        await swarm.quiet(1.0)
    change_cpu = (_cpu(server.process.pid) - change_cpu) / CHANGES
    rename_cpu = _cpu(server.process.pid)
    renamed = await swarm.spread("renamed-node", lambda: asyncio.to_thread(server.rename, "renamed-node"))
    await swarm.quiet()
    rename_cpu = _cpu(server.process.pid) - rename_cpu
    dropped, resident = swarm.dropped, _resident(server.process.pid)
    swarm.close()
    return Figures(
        join_seconds,
        join_cpu,
        statistics.median(changes),
        change_cpu,
        renamed,
        rename_cpu,
        resident,
        dropped,
    )


def _restart(size: int) -> float:
    click.echo(f"warren: {size} clients and a restart", err=True)

    async def run(server: Warren) -> float:
        keys = _keys(size)
        swarm = Swarm(server.port)
        await swarm.join(keys, server.auth_key())
        server.process.kill()
        server.process.wait()
        swarm.close()
        began = time.monotonic()
        server.start()
        again = Swarm(server.port)
        await again.join(keys, None, at_a_time=size)
        seconds = time.monotonic() - began
        again.close()
        return seconds

    with _server(None) as server:
        assert isinstance(server, Warren)
        return uvloop.run(run(server))


@contextlib.contextmanager
def _server(headscale: Path | None) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as name:
        folder = Path(name)
        server: Server = Warren(folder) if headscale is None else Headscale(folder, headscale)
        try:
            yield server
        finally:
            server.process.terminate()
            server.process.wait(20)


def _keys(size: int) -> Sequence[Keys]:
    return [Keys(f"node-{number}") for number in range(size)]


def _region() -> dict[str, object]:
    node = {"Name": "900a", "RegionID": 900, "HostName": HOST, "IPv4": HOST, "DERPPort": 1, "STUNPort": -1}
    return {"RegionID": 900, "RegionCode": "home", "RegionName": "Home", "Nodes": [node]}


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} did not come up")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6
