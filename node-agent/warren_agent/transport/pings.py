"""Pings that people and control servers ask for, and the answers they wait for."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final

from warren_agent.paths.actions import IPAddress, PingAnswered
from warren_agent.paths.machine import PathMachine
from warren_agent.paths.values import PathKind, PathStatus, PingResult
from warren_agent.transport.tunnel_sockets import TsmpSockets, icmp_latency_seconds
from warren_wire import tsmp
from warren_wire.keys import NodePublic

DIRECT_PREFERENCE_SECONDS: Final = 0.25
"""How long a direct answer may come after a relayed one and still be the one that counts."""

NO_ANSWER: Final = PingResult(PathKind.IDLE, None, None, None)


class Pings:
    """Waits for the answers that the engine passes on."""

    def __init__(self, machine: PathMachine, pump: Callable[[], None]) -> None:
        self._machine = machine
        self._pump = pump
        self._disco: dict[int, asyncio.Queue[PingAnswered]] = {}
        self._tsmp: dict[bytes, asyncio.Future[float]] = {}

    def answered(self, event: PingAnswered) -> None:
        queue = self._disco.get(event.token)
        if queue is not None and not queue.full():
            queue.put_nowait(event)

    def tsmp_answered(self, pong: tsmp.TsmpPong) -> None:
        waiting = self._tsmp.get(pong.data)
        if waiting is not None and not waiting.done():
            waiting.set_result(time.monotonic())

    async def disco(self, peer: NodePublic, timeout_seconds: float) -> PingResult:
        """By every path; the direct one wins if both answer about as fast. Raises `KeyError`."""
        token = self._machine.ask(peer, time.monotonic())
        if token is None:
            raise KeyError(f"no peer {peer.short()}")
        answers = self._disco[token] = asyncio.Queue(maxsize=64)
        self._pump()
        best: PingAnswered | None = None
        try:
            async with asyncio.timeout(timeout_seconds):
                best = await answers.get()
                while best.endpoint is None:
                    async with asyncio.timeout(DIRECT_PREFERENCE_SECONDS):
                        best = await answers.get()
        except TimeoutError:
            pass
        finally:
            del self._disco[token]
        if best is None:
            return NO_ANSWER
        kind = PathKind.DIRECT if best.endpoint is not None else PathKind.RELAY
        return PingResult(kind, best.endpoint, best.region, best.latency_seconds)

    async def tsmp(self, sockets: TsmpSockets, address: IPAddress, timeout_seconds: float) -> float | None:
        """Through the tunnel to the peer's own node program; None without an answer."""
        data = os.urandom(tsmp.PING_BYTES)
        waiting: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._tsmp[data] = waiting
        began = time.monotonic()
        try:
            sockets.send(tsmp.TsmpPing(data), address)
            async with asyncio.timeout(timeout_seconds):
                return await waiting - began
        except TimeoutError:
            return None
        finally:
            del self._tsmp[data]

    async def icmp(self, address: IPAddress, timeout_seconds: float) -> float | None:
        """Through the tunnel to the peer's kernel; None without an answer."""
        return await icmp_latency_seconds(address, timeout_seconds)


def by_path(path: PathStatus, latency_seconds: float | None) -> PingResult:
    """What went through the tunnel took the path that is in use."""
    if latency_seconds is None:
        return NO_ANSWER
    if path.path is PathKind.DIRECT:
        return PingResult(PathKind.DIRECT, path.endpoint, None, latency_seconds)
    return PingResult(PathKind.RELAY, None, path.relay, latency_seconds)
