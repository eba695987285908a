"""What is told of the parts of a network map that are not used."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from support.members import member, networks
from warren_agent.allotment import Reason, Refusal
from warren_agent.netmap_report import MAX_TOLD, NetmapReport

REFUSAL = Refusal("office", networks("0.0.0.0/0")[0], Reason.DEFAULT_ROUTE)
BROKEN = replace(member("branch", 3), problems=("addresses: 'nowhere' is not valid",))


def reasons(caplog: pytest.LogCaptureFixture) -> list[object]:
    return [vars(record).get("reason") for record in caplog.records]


def test_what_is_not_used_is_counted_and_logged_once_each_time_it_appears(
    caplog: pytest.LogCaptureFixture,
) -> None:
    report = NetmapReport()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            report.update([REFUSAL], [member("office", 2), BROKEN])
        assert reasons(caplog) == [
            "0.0.0.0/0 of office is not used: it is a default route and no exit node is chosen",
            "branch: addresses: 'nowhere' is not valid",
        ]
        assert REGISTRY.get_sample_value("warren_agent_routes_refused") == 1
        assert REGISTRY.get_sample_value("warren_agent_netmap_problems") == 1
        report.update([], [])
        assert REGISTRY.get_sample_value("warren_agent_routes_refused") == 0
        assert REGISTRY.get_sample_value("warren_agent_netmap_problems") == 0
        report.update([REFUSAL], [])
    assert len(caplog.records) == 3


def test_a_map_of_nothing_but_faults_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    broken = replace(BROKEN, problems=tuple(f"fault {number}" for number in range(1000)))
    with caplog.at_level(logging.WARNING):
        NetmapReport().update([], [broken])
    assert len(caplog.records) == MAX_TOLD + 1
    assert vars(caplog.records[-1])["count"] == 1000 - MAX_TOLD
