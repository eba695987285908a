"""Every closed set has its time series from the start."""

from __future__ import annotations

from dataclasses import fields

from prometheus_client import REGISTRY, CollectorRegistry

from warren_agent import metrics
from warren_agent.paths.counters import PathCounters, TransportCounters
from warren_agent.paths.values import PathKind


def test_paths_are_counted_by_kind_and_events_by_name() -> None:
    registry = CollectorRegistry()
    registry.register(
        metrics.PathCollector(paths=PathCounters(pings_sent=7), transport=TransportCounters(), status=dict)
    )
    for kind in PathKind:
        assert registry.get_sample_value("warren_agent_paths", {"kind": kind.value}) == 0
    for name, counters in (("path", PathCounters), ("transport", TransportCounters)):
        for field in fields(counters):
            sample = registry.get_sample_value(f"warren_agent_{name}_events_total", {"event": field.name})
            assert sample == (7 if field.name == "pings_sent" else 0)


def test_outcomes_are_there_before_they_happen() -> None:
    for outcome in ("unchanged", "changed", "failed"):
        assert REGISTRY.get_sample_value("warren_agent_applies_total", {"outcome": outcome}) is not None
    for outcome in ("accepted", "refused"):
        assert REGISTRY.get_sample_value("warren_agent_registrations_total", {"outcome": outcome}) is not None
