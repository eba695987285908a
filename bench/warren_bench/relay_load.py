"""A load generator for any DERP relay: pairs of clients over TLS in one process, frames built beforehand.

It cuts nothing it receives into frames, only counts bytes, so that it costs less than what it measures.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, cast

from warren_wire.derp import frames
from warren_wire.derp.client import DerpClient, Ready
from warren_wire.keys import NodePrivate, NodePublic

WINDOW: Final = 24
"""Packets of one pair under way: below the 32 that the stock relay keeps, so that neither drops."""
CONNECTING_AT_ONCE: Final = 50
STUCK_SECONDS: Final = 0.25
TICK_SECONDS: Final = 0.001
PROBE_SECONDS: Final = 0.002
FLOOD_TICK_SECONDS: Final = 0.01


class LoadClient(asyncio.Protocol):
    """One client; after the handshake every byte goes to `on_bytes`."""

    def __init__(self) -> None:
        self.node = NodePrivate.from_seed(os.urandom(32))
        self.machine = DerpClient(self.node, lambda: os.urandom(24), app_name="bench")
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_bytes: Callable[[bytes], None] = _ignore
        self.transport: asyncio.Transport | None = None

    @property
    def key(self) -> NodePublic:
        return self.node.public

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.machine.upgrade_request("localhost"))

    def data_received(self, data: bytes) -> None:
        if self.ready.done():
            self.on_bytes(data)
            return
        self.machine.receive_data(data)
        assert self.transport is not None
        self.transport.write(self.machine.data_to_send())
        if any(isinstance(event, Ready) for event in self.machine.events()):
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the relay closed the connection"))


class Pair:
    """A sender that keeps WINDOW packets under way to its receiver."""

    def __init__(self, sender: LoadClient, receiver: LoadClient, size: int) -> None:
        self._sender = sender
        self._frame = frames.send_packet(receiver.key, os.urandom(size))
        self._bytes = 0
        self._acknowledged = 0
        self.sent = 0
        self.lost = 0
        self.running = False
        receiver.on_bytes = self._received

    @property
    def delivered(self) -> int:
        return self._bytes // len(self._frame)

    def start(self) -> None:
        """Begin, or go on after a pause."""
        self.running = True
        self._send(WINDOW - (self.sent - self.lost - self.delivered))

    def repair(self) -> None:
        """Go on after a loss."""
        missing = self.sent - self.lost - self.delivered
        if self.running and self.delivered == self._acknowledged and missing > 0:
            self.lost += missing
            self._send(WINDOW)
        self._acknowledged = self.delivered

    def _received(self, data: bytes) -> None:
        self._bytes += len(data)
        room = WINDOW - (self.sent - self.lost - self.delivered)
        if self.running and room * 2 >= WINDOW:
            self._send(room)

    def _send(self, count: int) -> None:
        assert self._sender.transport is not None
        self.sent += count
        self._sender.transport.write(self._frame * count)


class Flood:
    """A steady stream to a receiver that may take nothing; use it as a context manager."""

    def __init__(self, sender: LoadClient, receiver: NodePublic, size: int, frames_per_second: int) -> None:
        self._sender = sender
        self._frame = frames.send_packet(receiver, os.urandom(size))
        self._rate = frames_per_second
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Flood:
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _send(self) -> None:
        assert self._sender.transport is not None
        began, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - began) * self._rate) - sent
            self._sender.transport.write(self._frame * due)
            sent += due
            await asyncio.sleep(FLOOD_TICK_SECONDS)


@dataclass(frozen=True, slots=True)
class Load:
    """What a relay carried."""

    frames_per_second: float
    frames_per_core_second: float
    lost: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from one client to another under load."""

    p50: float
    p99: float


async def connect(port: int, tls: ssl.SSLContext, count: int) -> list[LoadClient]:
    """Clients that the relay has taken in."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def one() -> LoadClient:
        async with gate:
            _, client = await loop.create_connection(
                LoadClient, "127.0.0.1", port, ssl=tls, server_hostname="localhost"
            )
            await asyncio.wait_for(client.ready, 30)
            return client

    return list(await asyncio.gather(*(one() for _ in range(count))))


def close(clients: Sequence[LoadClient]) -> None:
    for client in clients:
        if client.transport is not None:
            client.transport.abort()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children that run."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    total = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return total + sum(cpu_seconds(int(child)) for child in children)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def run_pairs(pid: int, pairs: Sequence[Pair], seconds: float, warm_up: float = 0.5) -> Load:
    """Let the pairs run and say what was carried per second and per second of the relay's CPU."""
    for pair in pairs:
        pair.start()
    await _keep_going(pairs, warm_up)
    before, cpu, began = sum(pair.delivered for pair in pairs), cpu_seconds(pid), time.monotonic()
    await _keep_going(pairs, seconds)
    carried = sum(pair.delivered for pair in pairs) - before
    used, took = cpu_seconds(pid) - cpu, time.monotonic() - began
    for pair in pairs:
        pair.running = False
    await asyncio.sleep(0.1)
    return Load(carried / took, carried / used if used else 0.0, sum(pair.lost for pair in pairs))


async def _keep_going(pairs: Sequence[Pair], seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(STUCK_SECONDS, left))
        for pair in pairs:
            pair.repair()


async def latency(
    clients: Sequence[LoadClient], size: int, frames_per_second: float, seconds: float
) -> Latency:
    """Of a probe each two milliseconds, while the other clients carry this many frames a second."""
    probe, target, *others = clients
    senders = list(zip(others[::2], others[1::2], strict=True))
    blocks = [(sender, frames.send_packet(receiver.key, os.urandom(size))) for sender, receiver in senders]
    delays: list[float] = []
    pending = bytearray()
    header = frames.HEADER_BYTES + frames.KEY_BYTES
    length = header + size

    def received(data: bytes) -> None:
        pending.extend(data)
        while len(pending) >= length and pending[0] == frames.FrameType.RECV_PACKET:
            delays.append(time.monotonic() - struct.unpack_from("d", pending, header)[0])
            del pending[:length]

    target.on_bytes = received
    began = last_probe = time.monotonic()
    due, turn = 0.0, 0
    while (now := time.monotonic()) - began < seconds:
        target_count = (now - began) * frames_per_second
        while due < target_count:
            sender, frame = blocks[turn % len(blocks)]
            turn += 1
            assert sender.transport is not None
            sender.transport.write(frame * 4)
            due += 4
        if now - last_probe >= PROBE_SECONDS:
            last_probe = now
            assert probe.transport is not None
            packet = struct.pack("d", time.monotonic()) + bytes(size - 8)
            probe.transport.write(frames.send_packet(target.key, packet))
        await asyncio.sleep(TICK_SECONDS)
    await asyncio.sleep(0.3)
    delays.sort()
    if not delays:
        return Latency(float("inf"), float("inf"))
    return Latency(delays[len(delays) // 2], delays[int(len(delays) * 0.99)])


def _ignore(_: bytes) -> None:
    """What arrives is not counted."""
