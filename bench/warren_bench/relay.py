"""Our relay against the stock one: the same load generator, TLS on, both in one run.

Frames per second of the relay's CPU is what counts where load generator and relay share the cores.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import uvloop

from warren_bench import relay_load as load
from warren_bench.frame import Row, alternate_many, row
from warren_bench.receiver import Receiver
from warren_bench.usage import Usage
from warren_lab import preflight, tools
from warren_lab.certificates import Authority
from warren_lab.hosts import IperfServer, throughput_gbits
from warren_lab.net import Network
from warren_lab.run import Run
from warren_lab.scenario.relays import RelayLab, topology
from warren_lab.tools import Toolbox

SECONDS: Final = 2.0
SHAPES: Final = ((2, "one pair"), (200, "100 pairs"), (1000, "1,000 clients"))
SIZES: Final = (64, 512, 1280)
GOALS: Final = {64: ">= 0.7", 512: None, 1280: ">= 1.0"}
IDLE_CLIENTS: Final = 10_000
IDLE_GOAL_KB: Final = 30.0
OPEN_FILES: Final = 65_536
STALL_TURNS: Final = 4
FLOOD_PER_SECOND: Final = 4000
PEER: Final = "derper"
TCP_SECONDS: Final = 5
TCP_FIGURES: Final = {
    "rate": ("Gbit/s", ">= 1.5"),
    "processor time of the relay": ("s/GB", None),
    "processor time of relay, clients and receiver": ("s/GB", None),
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Side:
    """A relay that runs."""

    name: str
    pid: int
    port: int
    tls: ssl.SSLContext
    ca_file: Path


def rows(runs: int) -> list[Row]:
    _allow_many_files()
    toolbox = tools.ensure(("peers",))
    with tempfile.TemporaryDirectory() as name, _sides(Path(name), toolbox) as (ours, peer):
        found = [*_throughput(runs, ours, peer), *_latency(runs, ours, peer), _stalled(runs, ours)]
    with tempfile.TemporaryDirectory() as name, _sides(Path(name), toolbox) as (ours, peer):
        found += _idle(ours, peer)
    return [*found, *_end_to_end(runs, toolbox)]


def _throughput(runs: int, ours: Side, peer: Side) -> Iterator[Row]:
    for count, shape in SHAPES:
        for size in SIZES:
            figures: dict[str, list[load.Load]] = {ours.name: [], peer.name: []}
            for _ in range(runs):
                for side in (ours, peer):
                    figures[side.name].append(_run(_carry(side, count, size)))
            mine, theirs = (_median(figures[side.name], _per_core) for side in (ours, peer))
            goal = GOALS[size]
            yield row(f"{shape}, {size} B", mine, "frames/core s", peer=theirs, peer_name=PEER, goal=goal)
            mine, theirs = (_median(figures[side.name], _per_second) for side in (ours, peer))
            yield row(f"{shape}, {size} B", mine, "frames/s", peer=theirs, peer_name=PEER)


async def _carry(side: Side, count: int, size: int) -> load.Load:
    clients = await load.connect(side.port, side.tls, count)
    pairs = [load.Pair(clients[n], clients[n + 1], size) for n in range(0, count, 2)]
    try:
        return await load.run_pairs(side.pid, pairs, SECONDS)
    finally:
        load.close(clients)


def _latency(runs: int, ours: Side, peer: Side) -> Iterator[Row]:
    """Both at the same rate: half of what the slower carries."""
    slower = min(_run(_carry(side, 20, 1280)).frames_per_second for side in (ours, peer))
    figures: dict[str, list[load.Latency]] = {ours.name: [], peer.name: []}
    for _ in range(runs):
        for side in (ours, peer):
            figures[side.name].append(_run(_probe(side, slower / 2)))
    for title, pick in (("p50", lambda each: each.p50), ("p99", lambda each: each.p99)):
        mine, theirs = (1e3 * statistics.median(map(pick, figures[side.name])) for side in (ours, peer))
        goal = "<= 1.0" if title == "p99" else None
        text = f"latency {title}, {slower / 2:.0f} frames/s of 1280 B"
        yield row(text, mine, "ms", peer=theirs, peer_name=PEER, goal=goal)


async def _probe(side: Side, rate: float) -> load.Latency:
    clients = await load.connect(side.port, side.tls, 22)
    try:
        return await load.latency(clients, 1280, rate, SECONDS)
    finally:
        load.close(clients)


def _stalled(runs: int, ours: Side) -> Row:
    pairs = [_run(_with_a_stopped_receiver(ours)) for _ in range(runs)]
    before, after = (statistics.median(each[index] for each in pairs) for index in (0, 1))
    text = "100 pairs while one receiver's process is stopped"
    return row(text, after, "frames/s", peer=before, peer_name="before", goal=">= 0.95")


async def _with_a_stopped_receiver(side: Side) -> tuple[float, float]:
    """Turns with the receiver of a flood running and stopped, so that all else is the same."""
    clients = await load.connect(side.port, side.tls, 201)
    sender = clients.pop()
    before, after = 0.0, 0.0
    try:
        pairs = [load.Pair(clients[n], clients[n + 1], 1280) for n in range(0, 200, 2)]
        for _ in range(STALL_TURNS):
            with Receiver(side.port, side.ca_file) as receiver:
                async with load.Flood(sender, receiver.key, 1280, FLOOD_PER_SECOND):
                    before += (await load.run_pairs(side.pid, pairs, SECONDS)).frames_per_second
                    receiver.stop()
                    after += (await load.run_pairs(side.pid, pairs, SECONDS)).frames_per_second
        return before / STALL_TURNS, after / STALL_TURNS
    finally:
        load.close([*clients, sender])


def _idle(ours: Side, peer: Side) -> Iterator[Row]:
    mine, theirs = (_run(_idle_bytes(side)) / 1000 for side in (ours, peer))
    text = f"memory of an idle client, of {IDLE_CLIENTS}"
    yield row(text, mine, "kB", peer=theirs, peer_name=PEER)
    yield row(text, mine, "kB", peer=IDLE_GOAL_KB, peer_name="the goal", goal="<= 1.0")


async def _idle_bytes(side: Side) -> float:
    before = load.resident_bytes(side.pid)
    clients = await load.connect(side.port, side.tls, IDLE_CLIENTS)
    try:
        return (load.resident_bytes(side.pid) - before) / IDLE_CLIENTS
    finally:
        load.close(clients)


def _end_to_end(runs: int, toolbox: Toolbox) -> list[Row]:
    """TCP through two stock clients whose only way is the relay."""
    if preflight.check({"network"}):
        return []
    ours, peer = alternate_many(runs, lambda: _tcp(True, toolbox), lambda: _tcp(False, toolbox))
    found = []
    for name, (unit, goal) in TCP_FIGURES.items():
        text = f"TCP of two stock clients over the relay: {name}"
        found.append(row(text, ours[name], unit, peer=peer[name], peer_name=PEER, goal=goal))
    return found


def _tcp(ours: bool, toolbox: Toolbox) -> dict[str, float]:
    with Run() as run, Network(topology(), run.prefix) as network:
        lab = RelayLab(run, network)
        lab.start_control("one")
        if ours:
            lab.start_relay("one", mesh=None)
        else:
            lab.start_derper("one", toolbox)
        with lab.join("home", toolbox) as home, lab.join("office", toolbox) as office:
            address = office.addresses()[0]
            home.ping(address, count=10)
            IperfServer(run, "office", namespace=network.namespace("office"))
            relay, everybody = (
                Usage.of(network.namespace(name) for name in names)
                for names in (("one",), ("one", "home", "office"))
            )
            rate = throughput_gbits(run, network.namespace("home"), address, seconds=TCP_SECONDS)
            carried = rate * TCP_SECONDS / 8
            figures = (rate, relay.since() / carried, everybody.since() / carried)
            return dict(zip(TCP_FIGURES, figures, strict=True))


@contextmanager
def _sides(folder: Path, toolbox: Toolbox) -> Iterator[tuple[Side, Side]]:
    pair = Authority.create(folder).issue(folder, ["localhost"])
    tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    ports = [_free_port(), _free_port()]
    commands = [
        [
            *(sys.executable, "-m", "warren_relay", "serve", f"--listen=127.0.0.1:{ports[0]}"),
            *(f"--tls-certificate={pair.certificate}", f"--tls-key={pair.key}", "--stun-listen=off"),
            *("--health-listen=off", "--admission-mode=open", f"--derp-key-file={folder / 'derp.key'}"),
        ],
        [
            *(str(toolbox.path("derper")), f"--a=127.0.0.1:{ports[1]}", "--http-port=-1", "--stun=false"),
            *(
                "--certmode=manual",
                f"--certdir={folder}",
                "--hostname=localhost",
                f"--c={folder}/derper.json",
            ),
        ],
    ]
    with (folder / "log").open("wb") as log:
        processes = [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]
        try:
            for port in ports:
                _wait_for(port)
            ours, peer = (process.pid for process in processes)
            ca_file = folder / "ca.crt"
            yield Side("ours", ours, ports[0], tls, ca_file), Side(PEER, peer, ports[1], tls, ca_file)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _run(work: Coroutine[object, object, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _median(figures: list[load.Load], pick: Callable[[load.Load], float]) -> float:
    return statistics.median(map(pick, figures))


def _per_core(figure: load.Load) -> float:
    return figure.frames_per_core_second


def _per_second(figure: load.Load) -> float:
    return figure.frames_per_second


def _allow_many_files() -> None:
    """This process and the relays that it starts have a socket for each client."""
    hard = max(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except ValueError:
        # Only root may raise the hard limit.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait_for(port: int, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
