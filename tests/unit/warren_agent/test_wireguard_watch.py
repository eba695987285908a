"""Reading WireGuard again and again, also when a read fails or the clock jumps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import cast

import pytest

from support.simnet import Nat, pair
from warren_agent.kernel.interfaces import PeerStats, WireGuard, WireGuardError
from warren_agent.paths.counters import TransportCounters
from warren_agent.transport.endpoints import EndpointWriter
from warren_agent.transport.records import PeerRecord
from warren_agent.transport.wireguard_watch import WireGuardWatch
from warren_wire.addresses import AddrPort
from warren_wire.keys import NodePublic

STAND_IN = AddrPort.parse("127.1.2.3:41642")
HOUR_NS = 3600 * 10**9


class Device:
    """Gives the prepared answers one after the other."""

    def __init__(self, answers: list[Mapping[NodePublic, PeerStats] | WireGuardError]) -> None:
        self._answers = answers

    @property
    def left(self) -> int:
        return len(self._answers)

    async def peers(self) -> Mapping[NodePublic, PeerStats]:
        answer = self._answers.pop(0)
        if isinstance(answer, WireGuardError):
            raise answer
        return answer


def stats(handshake_hours: int, received: int = 0) -> PeerStats:
    return PeerStats(STAND_IN, received, 0, handshake_hours * HOUR_NS, ())


def test_reading_goes_on_after_a_failed_read_and_over_clocks_that_are_set_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = WireGuardError("kernel WireGuard on warren0: No buffer space available")
    with caplog.at_level(logging.WARNING):
        handshakes = asyncio.run(
            read_all([stats(5), lost, lost, stats(5, 100), stats(2, 200), stats(9, 300)])
        )
    # Said once for each time that it begins.
    assert [vars(record)["reason"] for record in caplog.records] == [str(lost)]
    # A new session is another time, be it an earlier one.
    assert handshakes == 2


async def read_all(answers: list[PeerStats | WireGuardError]) -> int:
    """The sessions that were noticed when the device has given all answers."""
    _, home, office = pair(Nat.NONE, Nat.NONE)
    device = Device([each if isinstance(each, WireGuardError) else {office.key: each} for each in answers])
    handshakes: list[NodePublic] = []
    watch = WireGuardWatch(
        wireguard=cast(WireGuard, device),
        machine=home.machine,
        writer=EndpointWriter(cast(WireGuard, device), TransportCounters()),
        loopback_endpoint=lambda key: STAND_IN,
        relayed=lambda key: PeerRecord(),
        on_handshake=handshakes.append,
        on_new=lambda key: None,
        done=lambda: None,
    )
    watching = asyncio.create_task(watch.run())
    while device.left:
        watch.look()
        await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return len(handshakes)
