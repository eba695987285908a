"""What a mesh does in a week, done in minutes, while memory and files of the server are watched."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from warren_bench.control_servers import Warren
from warren_bench.process import cpu_seconds, open_files, resident_bytes
from warren_bench.swarm import Client, Keys, Swarm

MEMBERS: Final = 200
# In a week. Each member wakes up or changes networks ten times a day and has new endpoints twice as often,
# build machines join for some minutes 400 times a day, and people rename a few machines.
RECONNECTS: Final = MEMBERS * 10 * 7
ENDPOINT_CHANGES: Final = MEMBERS * 20 * 7
PASSING: Final = 400 * 7
RENAMES: Final = 10 * 7
STAY_SECONDS: Final = 10.0
READINGS: Final = 20
# More than this under way means that the machine cannot keep the pace.
_AT_ONCE: Final = 128
_SEED: Final = 1

Say = Callable[[str], None]
Event = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Reading:
    """The server at one moment."""

    seconds: float
    done: float
    """Of the week's events."""
    megabytes: float
    files: int
    cpu: float
    failed: int
    """Events that the server did not let happen."""


class Churn:
    """Members that come and go, and machines that pass by."""

    def __init__(self, server: Warren, say: Say) -> None:
        self._server = server
        self._say = say
        self._swarm = Swarm(server.port)
        self._passing_key = server.passing_key()
        self._members: list[Client] = []
        self._busy: set[int] = set()
        self._number = 0
        self._random = random.Random(_SEED)
        self.failed = 0

    async def begin(self) -> None:
        keys = [Keys(f"member-{number}") for number in range(MEMBERS)]
        await self._swarm.join(keys, self._server.auth_key())
        self._members = self._swarm.clients

    def week(self) -> list[Event]:
        """Everything that happens, in no order."""
        events: list[Event] = [
            *[self._reconnect] * RECONNECTS,
            *[self._endpoints] * ENDPOINT_CHANGES,
            *[self._pass_by] * PASSING,
            *[self._rename] * RENAMES,
        ]
        self._random.shuffle(events)
        return events

    async def happen(self, event: Event) -> None:
        try:
            await event()
        except (OSError, TimeoutError, RuntimeError) as error:
            self.failed += 1
            self._say(f"  failed: {error!r}")

    async def _reconnect(self) -> None:
        with self._idle_member() as number:
            self._members[number].close()
            client = self._swarm.client(self._members[number].keys)
            await client.connect()
            await client.poll()
            self._members[number] = client

    async def _endpoints(self) -> None:
        with self._idle_member() as number:
            address = f"198.51.100.{self._random.randrange(1, 255)}:{self._random.randrange(1024, 65536)}"
            await self._members[number].report([address])

    async def _pass_by(self) -> None:
        self._number += 1
        client = self._swarm.client(Keys(f"passing-{self._number}"))
        await client.connect()
        await client.register(self._passing_key)
        await client.poll()
        await asyncio.sleep(STAY_SECONDS)
        await client.log_out()
        client.close()

    async def _rename(self) -> None:
        self._number += 1
        node = self._random.randrange(MEMBERS) + 1
        await asyncio.to_thread(self._server.rename, node, f"renamed-{self._number}")

    @contextlib.contextmanager
    def _idle_member(self) -> Iterator[int]:
        """A member that does nothing else meanwhile."""
        while (number := self._random.randrange(MEMBERS)) in self._busy:
            pass
        self._busy.add(number)
        try:
            yield number
        finally:
            self._busy.discard(number)

    def close(self) -> None:
        for client in self._members:
            client.close()


async def churn(server: Warren, seconds: float, say: Say) -> list[Reading]:
    """A week's events spread over the time, or as many as the machine can do; readings in between."""
    world = Churn(server, say)
    await world.begin()
    meter = _Meter(server.process.pid, world, say)
    events, began = world.week(), time.monotonic()
    running: set[asyncio.Task[None]] = set()
    for number, event in enumerate(events):
        now, due = time.monotonic(), began + seconds * number / len(events)
        if now > began + seconds:
            break
        await asyncio.sleep(max(0.0, due - now))
        if len(running) >= _AT_ONCE:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(world.happen(event))
        running.add(task)
        task.add_done_callback(running.discard)
        if number % max(1, len(events) // READINGS) == 0:
            meter.read(number / len(events))
    await asyncio.gather(*running)
    # The last machines that passed by are gone.
    await asyncio.sleep(STAY_SECONDS)
    meter.read((number + 1) / len(events))
    world.close()
    return meter.readings


class _Meter:
    """Reads the server's use now and then."""

    def __init__(self, pid: int, world: Churn, say: Say) -> None:
        self.readings: list[Reading] = []
        self._pid, self._world, self._say = pid, world, say
        self._began, self._cpu = time.monotonic(), cpu_seconds(pid)

    def read(self, done: float) -> None:
        reading = Reading(
            time.monotonic() - self._began,
            done,
            resident_bytes(self._pid) / 1e6,
            open_files(self._pid),
            cpu_seconds(self._pid) - self._cpu,
            self._world.failed,
        )
        self.readings.append(reading)
        self._say(
            f"  {reading.seconds:5.0f} s  {done:4.0%} of the week  {reading.megabytes:6.1f} MB"
            f"  {reading.files} files  {reading.cpu:5.1f} s of processor time  {reading.failed} failed"
        )
