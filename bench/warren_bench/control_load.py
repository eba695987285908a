"""What a swarm of clients makes a control server do, and what that costs it."""

from __future__ import annotations

import asyncio
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from warren_bench.control_servers import Server, Warren
from warren_bench.process import cpu_seconds, peak_bytes, resident_bytes
from warren_bench.swarm import Keys, Swarm

CHANGES: Final = 10
IDLE_SECONDS: Final = 30.0
_STEPS: Final = 5

Say = Callable[[str], None]


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
    client_kilobytes: float
    dropped: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """How a server came back to all its clients."""

    seconds: float
    cpu: float
    steady_megabytes: float
    peak_megabytes: float


@dataclass(frozen=True, slots=True)
class Idle:
    """What many clients cost that do nothing."""

    join_seconds: float
    join_cpu: float
    client_kilobytes: float
    idle_cpu: float
    dropped: int


async def joins(server: Server, size: int, say: Say) -> Figures:
    """All join, one changes its endpoints several times, one is renamed."""
    key, swarm, pid = server.auth_key(), Swarm(server.port), server.process.pid
    before = resident_bytes(pid)
    began, cpu = time.monotonic(), cpu_seconds(pid)
    await swarm.join(keys(size), key, progress=_progress(size, say))
    join_seconds = time.monotonic() - began
    await swarm.quiet()
    join_cpu = cpu_seconds(pid) - cpu
    changes, change_cpu = [], 0.0
    for number in range(CHANGES):
        endpoint = f"198.51.100.{number + 1}:4242"
        cpu = cpu_seconds(pid)
        report = functools.partial(swarm.clients[0].report, [endpoint])
        changes.append(await swarm.spread(endpoint, report, without=0))
        await swarm.quiet(1.0)
        change_cpu += (cpu_seconds(pid) - cpu) / CHANGES
    cpu = cpu_seconds(pid)
    rename = functools.partial(asyncio.to_thread, server.rename, 1, "renamed-node")
    renamed = await swarm.spread("renamed-node", rename, without=0)
    await swarm.quiet()
    rename_cpu = cpu_seconds(pid) - cpu
    dropped, resident = swarm.dropped, resident_bytes(pid)
    swarm.close()
    return Figures(
        join_seconds,
        join_cpu,
        statistics.median(changes),
        change_cpu,
        renamed,
        rename_cpu,
        resident / 1e6,
        (resident - before) / size / 1e3,
        dropped,
    )


async def restart(server: Warren, size: int, say: Say) -> Restarted:
    """The server is killed and started again; everybody comes back at the same moment."""
    machines, swarm = keys(size), Swarm(server.port)
    await swarm.join(machines, server.auth_key(), progress=_progress(size, say))
    await swarm.quiet()
    steady = resident_bytes(server.process.pid)
    server.process.kill()
    server.process.wait()
    swarm.close()
    say("the server is killed and starts again")
    began = time.monotonic()
    server.start()
    again = Swarm(server.port)
    await again.join(machines, None, at_a_time=size, progress=_progress(size, say))
    seconds = time.monotonic() - began
    if again.dropped:
        raise RuntimeError(f"{again.dropped} of {size} clients did not come back")
    await again.quiet()
    pid = server.process.pid
    figures = Restarted(seconds, cpu_seconds(pid), steady / 1e6, peak_bytes(pid) / 1e6)
    again.close()
    return figures


async def idle(server: Server, size: int, say: Say) -> Idle:
    """All join and do nothing but answer pings."""
    key, swarm, pid = server.auth_key(), Swarm(server.port), server.process.pid
    before, began, cpu = resident_bytes(pid), time.monotonic(), cpu_seconds(pid)
    await swarm.join(keys(size), key, progress=_progress(size, say))
    join_seconds = time.monotonic() - began
    await swarm.quiet()
    join_cpu, resident = cpu_seconds(pid) - cpu, resident_bytes(pid)
    say(f"all joined; nothing happens for {IDLE_SECONDS:g} s")
    cpu = cpu_seconds(pid)
    await asyncio.sleep(IDLE_SECONDS)
    idle_cpu = (cpu_seconds(pid) - cpu) / IDLE_SECONDS
    figures = Idle(join_seconds, join_cpu, (resident - before) / size / 1e3, idle_cpu, swarm.dropped)
    swarm.close()
    return figures


def keys(size: int) -> Sequence[Keys]:
    return [Keys(f"node-{number}") for number in range(size)]


def _progress(size: int, say: Say) -> Callable[[int], None]:
    def told(joined: int) -> None:
        if joined % max(1, size // _STEPS) == 0:
            say(f"  {joined} of {size}")

    return told
