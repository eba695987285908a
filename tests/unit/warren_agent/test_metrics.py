"""Every closed set has its time series from the start."""

from __future__ import annotations

from dataclasses import fields

from prometheus_client import REGISTRY, CollectorRegistry

from support.members import node_key
from warren_agent import metrics
from warren_agent.paths.counters import PathCounters, TransportCounters
from warren_agent.paths.direct_bytes import DirectBytes
from warren_agent.paths.values import PathKind


def test_paths_are_counted_by_kind_and_events_by_name() -> None:
    registry = CollectorRegistry()
    registry.register(
        metrics.PathCollector(
            paths=PathCounters(pings_sent=7),
            transport=TransportCounters(),
            status=dict,
            carried=lambda: {("direct", "sent"): 5},
        )
    )
    for kind in PathKind:
        assert registry.get_sample_value("warren_agent_paths", {"kind": kind.value}) == 0
    labels = {"path": "direct", "direction": "sent"}
    assert registry.get_sample_value("warren_agent_bytes_total", labels) == 5
    for name, counters in (("path", PathCounters), ("transport", TransportCounters)):
        for field in fields(counters):
            sample = registry.get_sample_value(f"warren_agent_{name}_events_total", {"event": field.name})
            assert sample == (7 if field.name == "pings_sent" else 0)


def test_bytes_beyond_what_relays_carried_went_directly() -> None:
    direct = DirectBytes()
    peer = node_key("office")
    direct.observe(peer, 5000, 0)
    assert direct.total == 0, "what was there before is nobody's"
    # A relayed packet is counted here first, and in WireGuard at the next look.
    direct.observe(peer, 5000, 1000)
    direct.observe(peer, 6000, 1000)
    assert direct.total == 0
    direct.observe(peer, 6700, 1000)
    assert direct.total == 700
    direct.observe(peer, 300, 1000)
    assert direct.total == 700, "a peer made anew starts from its own counters"
    direct.observe(peer, 400, 1000)
    assert direct.total == 800
    direct.forget(peer)
    direct.observe(peer, 900, 0)
    assert direct.total == 800


def test_outcomes_are_there_before_they_happen() -> None:
    for outcome in ("unchanged", "changed", "failed"):
        assert REGISTRY.get_sample_value("warren_agent_applies_total", {"outcome": outcome}) is not None
    for outcome in ("accepted", "refused"):
        assert REGISTRY.get_sample_value("warren_agent_registrations_total", {"outcome": outcome}) is not None
