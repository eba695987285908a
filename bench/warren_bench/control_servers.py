"""Control servers under test: ours and Headscale, each on loopback with a database of its own."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import yaml

from warren_bench.swarm import HOST

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0


class Server(Protocol):
    """A control server under test."""

    port: int
    process: subprocess.Popen[bytes]

    def auth_key(self) -> str:
        """A key that admits any number of machines."""
        ...

    def rename(self, node: int, name: str) -> None: ...


class Warren:
    """`warren-control serve`."""

    def __init__(self, folder: Path, policy: str = "") -> None:
        self.port = _free_port()
        self._socket = folder / "control.sock"
        self._file = folder / "config.yaml"
        settings: dict[str, object] = {
            "server_url": f"http://{HOST}:{self.port}",
            "listen": f"{HOST}:{self.port}",
            "database": f"sqlite:///{folder}/control.db",
            "noise_key_file": str(folder / "noise.key"),
            "derp_key_file": str(folder / "derp.key"),
            "admin_socket": str(self._socket),
            "regions": [_region()],
        }
        if policy:
            file = folder / "policy.hujson"
            file.write_text(policy)
            settings["policy"] = {"file": str(file)}
        self._file.write_text(yaml.safe_dump(settings))
        self._log = (folder / "log").open("ab")
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "warren_control", "serve", "--config", str(self._file)]
        self.process = subprocess.Popen(command, stderr=self._log)
        _wait_for(self.port, self.process)

    def auth_key(self) -> str:
        return self._key("--reusable")

    def passing_key(self) -> str:
        """A key for machines that are removed when they leave."""
        return self._key("--reusable", "--ephemeral")

    def _key(self, *options: str) -> str:
        command = [sys.executable, "-m", "warren_control", "keys", "create", *options]
        return _output([*command, "--config", str(self._file)]).strip()

    def rename(self, node: int, name: str) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            body = json.dumps({"name": name})
            head = f"PATCH /api/v1/nodes/{node} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
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

    def rename(self, node: int, name: str) -> None:
        self._run("nodes", "rename", "-i", str(node), name)

    def _run(self, *arguments: str) -> str:
        return _output([str(self._program), "-c", str(self._file), *arguments])


@contextlib.contextmanager
def warren(policy: str = "") -> Iterator[Warren]:
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as folder:
        server = Warren(Path(folder), policy)
        try:
            yield server
        finally:
            _stop(server.process)


@contextlib.contextmanager
def headscale(program: Path) -> Iterator[Headscale]:
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as folder:
        server = Headscale(Path(folder), program)
        try:
            yield server
        finally:
            _stop(server.process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
