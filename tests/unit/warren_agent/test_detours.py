"""Why a peer is not reached directly."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from support.members import member
from warren_agent.detours import why_not_direct
from warren_agent.member import Member
from warren_agent.paths.values import LocalState, PathKind, PathStatus
from warren_wire.addresses import AddrPort
from warren_wire.control.messages import NetInfo

NOW = datetime(2026, 1, 1, tzinfo=UTC)
V4, OTHER_V4, V6 = (
    AddrPort.parse(text) for text in ("203.0.113.20:41641", "192.168.1.2:41641", "[2001:db8::1]:41641")
)
FOUND = replace(member("office", 2), endpoints=(V4, OTHER_V4))


def path(kind: PathKind, seconds: float = 60) -> PathStatus:
    return PathStatus(kind, None, 900, NOW - timedelta(seconds=seconds), None, 0, 0, ())


def local(
    *, udp: bool = True, hard: bool | None = False, endpoints: tuple[AddrPort, ...] = (V4,)
) -> LocalState:
    return LocalState(endpoints, (1,), NetInfo(working_udp=udp, mapping_varies_by_dest_ip=hard))


RELAYED = path(PathKind.RELAY)


@pytest.mark.parametrize(
    ("peer", "way", "own", "reason"),
    [
        (FOUND, path(PathKind.DIRECT), local(), None),
        (FOUND, path(PathKind.IDLE), local(), "no traffic"),
        (replace(FOUND, online=False), path(PathKind.IDLE), local(), "offline"),
        (replace(FOUND, expired=True), None, local(), "its key has expired"),
        (FOUND, None, local(), "it has told no key to find it by"),
        (FOUND, RELAYED, local(udp=False), "no UDP gets out of this host's network"),
        (replace(FOUND, endpoints=()), RELAYED, local(), "it has told no address of its own"),
        (replace(FOUND, online=False), RELAYED, local(), "the control server calls it offline"),
        (FOUND, path(PathKind.RELAY, seconds=1), local(), "still looking for a direct path"),
        (FOUND, RELAYED, local(endpoints=(V6,)), "it and this host have no address family in common"),
        (FOUND, RELAYED, local(), "none of its 2 addresses answers"),
        (FOUND, RELAYED, None, "none of its 2 addresses answers"),
        (FOUND, RELAYED, local(hard=True), "none of its 2 addresses answers; the NAT here is hard"),
        (replace(FOUND, endpoints=(V4,)), RELAYED, local(), "its only address does not answer"),
    ],
)
def test_the_nearest_cause_is_named(
    peer: Member, way: PathStatus | None, own: LocalState | None, reason: str | None
) -> None:
    assert why_not_direct(peer, way, own, NOW) == reason
