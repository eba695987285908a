"""Looks at the network again and again: STUN through WireGuard's port, HTTPS where UDP is blocked, the
home relay."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Final

from warren_agent.paths.actions import IPAddress
from warren_agent.paths.counters import TransportCounters
from warren_agent.paths.home import HomeChoice
from warren_agent.paths.netcheck import BLOCKED_SUSPECTED_SECONDS, Netcheck
from warren_agent.paths.probe_plan import ProbePlan
from warren_agent.paths.values import NetcheckReport
from warren_agent.transport.relay_dial import RelayDialError, RelayTls, https_latency_seconds
from warren_agent.transport.relay_map import eligible_homes, stun_servers
from warren_wire import stun
from warren_wire.addresses import AddrPort
from warren_wire.control.messages import DERPRegion
from warren_wire.errors import DecodeError
from warren_wire.keys import NodePublic

PERIOD_SECONDS: Final = (20.0, 26.0)
"""Below the 30 s after which many firewalls forget a UDP mapping."""

HTTPS_SECONDS: Final = 5.0
HTTPS_KEPT_SECONDS: Final = 300.0

ALIVE_SECONDS: Final = 75.0
"""A home relay that sent something this recently is alive, measured or not: it says something each minute."""

Send = Callable[[bytes, AddrPort, IPAddress | None], bool]


class Surveyor:
    """One measurement at a time; a request during one makes one more. `on_report` gets each finished
    report."""

    def __init__(
        self,
        *,
        node: NodePublic,
        tls: RelayTls,
        mark: int,
        ipv6: bool,
        counters: TransportCounters,
        send: Send,
        heard_at: Callable[[int], float | None],
        home_may_move: Callable[[], bool],
        known_home: int,
        on_report: Callable[[NetcheckReport], None],
    ) -> None:
        self._tls = tls
        self._mark = mark
        self._ipv6 = ipv6
        self._counters = counters
        self._send = send
        self._heard_at = heard_at
        self._on_report = on_report
        self._home_may_move = home_may_move
        self._home = HomeChoice(node, known_home)
        self._plan = ProbePlan()
        self._regions: Mapping[int, DERPRegion] = {}
        self._scores: Mapping[int, float] = {}
        self._run: Netcheck | None = None
        self._has_map = False
        self._wanted = asyncio.Event()
        self._progress = asyncio.Event()
        self._waiting: list[asyncio.Future[NetcheckReport]] = []
        self._https: tuple[float, dict[int, float]] | None = None
        self.last = NetcheckReport()

    def set_regions(self, regions: Mapping[int, DERPRegion], scores: Mapping[int, float]) -> None:
        self._regions, self._scores = regions, scores
        self._has_map = True
        self.network_changed()

    def network_changed(self) -> None:
        """What was measured before says nothing any more."""
        self._https = None
        self._plan.reset()
        self.request()

    def request(self) -> None:
        """Measure as soon as possible."""
        self._wanted.set()

    async def fresh_report(self) -> NetcheckReport:
        """A report of a measurement that begins now or later."""
        future: asyncio.Future[NetcheckReport] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._plan.reset()
        self.request()
        return await future

    def receive_stun(self, data: bytes) -> None:
        """An answer from the raw socket; strays and garbage are ignored."""
        try:
            txid, mapped = stun.parse_binding_response(data)
        except DecodeError:
            self._counters.raw_malformed += 1
            return
        now = time.monotonic()
        if self._run is not None and self._run.receive(txid, mapped, now):
            self._counters.stun_received += 1
            self._progress.set()
        else:
            # The transaction is not ours or was answered: late, repeated or forged.
            self._counters.stun_unexpected += 1

    async def run(self, is_active: Callable[[], bool]) -> None:
        """Measure when asked, and periodically while there is traffic."""
        try:
            await self._run_forever(is_active)
        finally:
            for future in self._waiting:
                future.cancel()

    async def _run_forever(self, is_active: Callable[[], bool]) -> None:
        while True:
            try:
                async with asyncio.timeout(random.uniform(*PERIOD_SECONDS)):  # noqa: S311 - spreads load
                    await self._wanted.wait()
            except TimeoutError:
                if not is_active():
                    continue
            self._wanted.clear()
            waiting, self._waiting = self._waiting, []
            if not self._has_map:
                # Nobody to ask yet, and a home of "none" would be told to everybody.
                _resolve(waiting, self.last)
                continue
            try:
                report = await self._measure()
            except asyncio.CancelledError:
                self._waiting += waiting
                raise
            self._counters.netchecks += 1
            self.last = report
            self._on_report(report)
            _resolve(waiting, report)

    async def _measure(self) -> NetcheckReport:
        loop = asyncio.get_running_loop()
        regions = self._regions
        servers = self._plan.choose(
            await stun_servers(regions, ipv6=self._ipv6),
            latency=self.last.region_latency_seconds,
            home=self._home.home,
            now=time.monotonic(),
        )
        self._run = run = Netcheck(servers, os.urandom, time.monotonic())
        https: asyncio.Task[dict[int, float]] | None = None
        suspected_at = time.monotonic() + BLOCKED_SUSPECTED_SECONDS
        try:
            while not run.done and not (https is not None and https.done() and https.result()):
                for data, destination in run.datagrams_to_send():
                    self._send(data, destination, None)
                await self._until(min(run.next_timeout() or suspected_at, suspected_at))
                now = time.monotonic()
                run.handle_timeout(now)
                if now >= suspected_at:
                    suspected_at = now + 1.0
                    if not run.answered and https is None:
                        https = loop.create_task(self._measure_https(regions), name="https-latency")
            report = run.report()
            if not report.udp:
                measured = await https if https is not None else await self._measure_https(regions)
                report = dataclasses.replace(report, region_latency_seconds=measured)
        finally:
            self._run = None
            if https is not None:
                https.cancel()
        return dataclasses.replace(report, home=self._choose_home(report, regions))

    async def _until(self, deadline: float) -> None:
        self._progress.clear()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._progress.wait()
        except TimeoutError:
            pass

    async def _measure_https(self, regions: Mapping[int, DERPRegion]) -> dict[int, float]:
        """Kept for minutes while home is alive: each look is a TLS handshake with every region."""
        now = time.monotonic()
        if self._https is not None and now - self._https[0] < HTTPS_KEPT_SECONDS and self._home_alive(now):
            return self._https[1]
        found = await self._ask_https(regions)
        if found:
            self._https = (now, found)
        return found

    async def _ask_https(self, regions: Mapping[int, DERPRegion]) -> dict[int, float]:
        async def one(region_id: int) -> tuple[int, float] | None:
            for node in regions[region_id].nodes or ():
                if node.stun_only:
                    continue
                try:
                    async with asyncio.timeout(HTTPS_SECONDS):
                        latency = await https_latency_seconds(node, self._tls, mark=self._mark, ipv6=True)
                except (RelayDialError, TimeoutError):
                    continue
                return region_id, latency
            return None

        found = await asyncio.gather(*(one(region_id) for region_id in eligible_homes(regions)))
        return dict(entry for entry in found if entry is not None)

    def _choose_home(self, report: NetcheckReport, regions: Mapping[int, DERPRegion]) -> int:
        now = time.monotonic()
        return self._home.choose(
            report.region_latency_seconds,
            eligible=eligible_homes(regions),
            scores=self._scores,
            home_alive=self._home_alive(now),
            may_move=self._home_may_move(),
            now=now,
        )

    def _home_alive(self, now: float) -> bool:
        heard = self._heard_at(self._home.home)
        return heard is not None and now - heard < ALIVE_SECONDS


def _resolve(waiting: list[asyncio.Future[NetcheckReport]], report: NetcheckReport) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(report)
