"""Every metric of the agent."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Final

from prometheus_client import Counter, Gauge, Summary
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from warren_agent.control import c2n
from warren_agent.paths.counters import PathCounters, TransportCounters
from warren_agent.paths.values import PathKind, PathStatus
from warren_wire.keys import NodePublic

REGISTRATIONS: Final = Counter(
    "warren_agent_registrations", "Answers of the control server to registrations.", ["outcome"]
)
CONTROL_CONNECTED: Final = Gauge("warren_agent_control_connected", "1 while the map stream is open.")
MAP_RESPONSES: Final = Counter("warren_agent_map_responses", "Messages of the map stream.", ["kind"])
SERVER_REQUESTS: Final = Counter(
    "warren_agent_server_requests", "Requests of the control server into this node.", ["outcome"]
)
APPLIES: Final = Counter(
    "warren_agent_applies", "Rounds that brought the host to the network map.", ["outcome"]
)
APPLY_SECONDS: Final = Summary(
    "warren_agent_apply_seconds", "What one round of bringing the host to the network map took."
)
ACTIONS: Final = Counter("warren_agent_actions", "Changes made to the host.")
PEERS: Final = Gauge("warren_agent_peers", "Members that this node may reach.")
ROUTES_REFUSED: Final = Gauge("warren_agent_routes_refused", "Ranges of members that are not used.")
NETMAP_PROBLEMS: Final = Gauge(
    "warren_agent_netmap_problems", "Entries of members in the network map that are not valid."
)
WIREGUARD_RESTORED: Final = Counter(
    "warren_agent_wireguard_restored", "Times that the WireGuard device was gone and set up again."
)

for _outcome in ("accepted", "refused"):
    REGISTRATIONS.labels(_outcome)
for _kind in ("full", "delta", "keep_alive"):
    MAP_RESPONSES.labels(_kind)
for _answered in c2n.Outcome:
    SERVER_REQUESTS.labels(_answered.value)
for _outcome in ("unchanged", "changed", "failed"):
    APPLIES.labels(_outcome)


Carried = Mapping[tuple[str, str], int]
"""Bytes by path (`direct`, `relay`) and direction (`received`, `sent`)."""


class PathCollector(Collector):
    """Reads what the path engine counts when somebody asks, so that nothing is counted twice."""

    def __init__(
        self,
        *,
        paths: PathCounters,
        transport: TransportCounters,
        status: Callable[[], Mapping[NodePublic, PathStatus]],
        carried: Callable[[], Carried],
    ) -> None:
        self._carried = carried
        self._paths = paths
        self._transport = transport
        self._status = status

    def collect(self) -> Iterable[Metric]:
        kinds = Tally(status.path for status in self._status().values())
        paths = GaugeMetricFamily("warren_agent_paths", "Peers by how they are reached now.", labels=["kind"])
        for kind in PathKind:
            paths.add_metric([kind.value], kinds[kind])
        yield paths
        carried = CounterMetricFamily(
            "warren_agent_bytes",
            "Bytes of WireGuard by the kind of path and the direction.",
            labels=["path", "direction"],
        )
        for (path, direction), count in self._carried().items():
            carried.add_metric([path, direction], count)
        yield carried
        for name, text, counters in (
            ("warren_agent_path_events", "What path discovery did.", asdict(self._paths)),
            ("warren_agent_transport_events", "What sockets and relays did.", asdict(self._transport)),
        ):
            family = CounterMetricFamily(name, text, labels=["event"])
            for event, count in counters.items():
                family.add_metric([event], count)
            yield family
