"""The agent with a thousand peers: the first map, a change of one, the processor when idle, memory.

Everything lives in one network namespace of its own: a real control server, simulated clients of it, and the
agent with userspace WireGuard. Run as a program inside it; prints its figures as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml

from warren_bench.control_servers import Warren
from warren_bench.frame import Row, row
from warren_bench.swarm import Keys, Swarm
from warren_bench.usage import TICKS_PER_SECOND, ticks_of
from warren_lab import tools

PEERS: Final = 1000
SETTLE_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 30.0
CHANGES: Final = 10
WAIT_SECONDS: Final = 60.0
METRICS_PORT: Final = 19473
APPLY: Final = "warren_agent_apply_seconds"


def rows(peers: int = PEERS) -> list[Row]:
    """Against the goals alone: no other program does this work without also carrying the packets."""
    program = str(tools.ensure(("wireguard",)).path("wireguard"))
    command = [
        "unshare",
        "--net",
        "--",
        sys.executable,
        "-m",
        "warren_bench.agent_peers",
        program,
        str(peers),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the agent with {peers} peers was not measured: {done.stderr[-2000:]}")
    figures: Mapping[str, float] = json.loads(done.stdout)
    return [
        row(f"{peers} peers: first map applied", figures["first_ms"], "ms", goal="<= 500 ms"),
        row(f"{peers} peers: one of them changed", figures["change_ms"], "ms", goal="<= 10 ms"),
        row(f"{peers} peers: processor when idle", figures["idle_percent"], "%", goal="<= 1 %"),
        row(f"{peers} peers: resident", figures["resident_mb"], "MB", goal="<= 60 MB"),
    ]


async def measure(program: str, peers: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Warren(folder)
        try:
            swarm = Swarm(server.port)
            key = server.auth_key()
            await swarm.join([Keys(f"peer-{number}") for number in range(peers)], key)
            if swarm.dropped:
                raise RuntimeError(f"{swarm.dropped} of {peers} simulated peers were not admitted")
            try:
                return await asyncio.to_thread(_with_agent, folder, program, server, key)
            finally:
                swarm.close()
        finally:
            server.process.terminate()
            server.process.wait()


def _with_agent(folder: Path, program: str, server: Warren, key: str) -> dict[str, float]:
    (folder / "key").write_text(key)
    config = folder / "agent.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "server_url": f"http://127.0.0.1:{server.port}",
                "auth_key_file": str(folder / "key"),
                "state_dir": str(folder / "agent"),
                # WireGuard programs of a machine share one folder for their sockets, named by interface.
                "interface": f"wb{os.getpid()}",
                "data_plane": "userspace",
                "userspace": {"program": program},
                "socket": str(folder / "agent.sock"),
                "health_listen": f"127.0.0.1:{METRICS_PORT}",
            }
        )
    )
    log = (folder / "agent.log").open("wb")
    command = [sys.executable, "-m", "warren_agent"]
    agent = subprocess.Popen([*command, "up", "--config", str(config)], stderr=log)
    try:
        first = _applied(more_than=0)
        time.sleep(SETTLE_SECONDS)
        seconds, rounds = (
            _figure(f"{APPLY}_sum"),
            _figure(f"{APPLY}_count"),
        )
        for number in range(CHANGES):
            server.rename(number + 1, f"renamed-{number}")
            _applied(more_than=rounds + number)
        change = (_figure(f"{APPLY}_sum") - seconds) / CHANGES
        time.sleep(SETTLE_SECONDS)
        used, began = _ticks(agent.pid), time.monotonic()
        time.sleep(IDLE_SECONDS)
        idle = (_ticks(agent.pid) - used) / TICKS_PER_SECOND / (time.monotonic() - began)
        return {
            "first_ms": first * 1000,
            "change_ms": change * 1000,
            "idle_percent": idle * 100,
            "resident_mb": _resident_megabytes(agent.pid),
        }
    except RuntimeError as error:
        raise RuntimeError(f"{error}: {(folder / 'agent.log').read_text()[-1000:]}") from error
    finally:
        agent.terminate()
        agent.wait()
        subprocess.run([*command, "cleanup", "--config", str(config)], check=False, capture_output=True)
        log.close()


def _applied(more_than: float) -> float:
    """Seconds of all rounds so far, once there were more than so many."""
    deadline = time.monotonic() + WAIT_SECONDS
    while _figure(f"{APPLY}_count") <= more_than:
        if time.monotonic() > deadline:
            raise RuntimeError("the agent applied no network map")
        time.sleep(0.02)
    return _figure(f"{APPLY}_sum")


def _figure(name: str) -> float:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


def _ticks(pid: int) -> int:
    return ticks_of(Path(f"/proc/{pid}/stat").read_text())


def _resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(json.dumps(asyncio.run(measure(sys.argv[1], int(sys.argv[2])))))
