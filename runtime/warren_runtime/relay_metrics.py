"""Prometheus metrics of a relay, a STUN server and a listener, read from their counters when asked.

Nothing is touched per packet. Labels come from enums, never from keys or addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .derp_server import QUEUE_DELAY_BOUNDS, DerpService, DerpStats
from .listener import Listener
from .listener_metrics import ListenerCollector
from .relay_links import RelayLinks
from .stun_server import StunResult, StunServer


class StunCollector(Collector):
    """Metrics of a STUN server alone."""

    def __init__(self, prefix: str, stun: StunServer) -> None:
        self._prefix = prefix
        self._stun = stun

    def collect(self) -> Iterable[Metric]:
        text = "Datagrams at the STUN port."
        family = CounterMetricFamily(f"{self._prefix}_stun_requests", text, labels=["result"])
        for result in StunResult:
            family.add_metric([result.name.lower()], self._stun.results[result])
        yield family


class RelayCollector(Collector):
    """Metrics named `PREFIX_...`; give it to `registry.register`."""

    def __init__(
        self,
        prefix: str,
        derp: DerpService,
        *,
        stun: StunServer | None = None,
        listener: Listener | None = None,
        links: Sequence[RelayLinks] = (),
    ) -> None:
        self._prefix = prefix
        self._derp = derp
        self._stun = stun
        self._listener = listener
        self._links = links

    def collect(self) -> Iterable[Metric]:
        yield from self._relay()
        if self._stun is not None:
            yield from StunCollector(self._prefix, self._stun).collect()
        yield self._gauge("links", "Links to other relays and workers.", sum(one.up for one in self._links))
        lost = sum(one.lost for one in self._links)
        yield self._counter("links_lost", "Links that ended after they were up.", lost)
        if self._listener is not None:
            yield self._gauge("connections", "Open connections of every kind.", self._listener.connections)
            yield from ListenerCollector(self._prefix, self._listener).collect()

    def _relay(self) -> Iterable[Metric]:
        stats = self._derp.stats()
        yield self._gauge("clients", "Keys with at least one connection.", stats.clients)
        yield self._gauge("remote_clients", "Keys reached through other relays.", stats.remote_clients)
        yield self._gauge("watchers", "Relays that watch the clients here.", stats.watchers)
        yield self._gauge("client_connections", "Connections of clients.", stats.connections)
        yield self._gauge("home_clients", "Connections that have this relay as home.", stats.home_clients)
        yield self._gauge("queued_bytes", "Bytes waiting for receivers.", stats.queued_bytes)
        yield self._counter("clients_accepted", "Clients let in.", stats.accepted)
        yield self._counter("fast_starts", "Clients that knew the key from TLS.", stats.fast_starts)
        yield self._counter("websockets", "Connections in WebSocket messages.", stats.websockets)
        yield self._counter("pings", "Pings of clients.", stats.pings)
        yield self._counter("bytes_received", "Bytes read from clients.", stats.bytes_received)
        yield self._counter("bytes_sent", "Bytes written to clients.", stats.bytes_sent)
        yield self._counter("packets_received", "Packets to forward.", stats.packets_received)
        yield self._counter("packets_sent", "Packets forwarded.", stats.packets_sent)
        yield self._counter("forwarded_in", "Packets taken from other relays.", stats.forwarded_in)
        yield self._counter("forwarded_out", "Packets passed on to other relays.", stats.forwarded_out)
        yield self._counter("unknown_frames", "Frames of unknown type, skipped.", stats.unknown_frames)
        drops, closes, gone = stats.drops.items(), stats.closes.items(), stats.peer_gone.items()
        yield self._labelled("packets_dropped", "Packets not forwarded.", "reason", drops)
        yield self._labelled("connections_closed", "Ended connections of clients.", "reason", closes)
        yield self._labelled("peer_gone_notices", "Notices that a peer cannot be reached.", "reason", gone)

        failures = stats.handshake_failures.items()
        yield self._labelled("handshake_failures", "Clients that did not get in.", "reason", failures)
        yield self._queue_delay(stats)

    def _queue_delay(self, stats: DerpStats) -> Metric:
        buckets, total = [], 0
        for bound, count in zip((*QUEUE_DELAY_BOUNDS, float("inf")), stats.queue_delays, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
        return HistogramMetricFamily(
            f"{self._prefix}_queue_delay_seconds",
            "How long the oldest packet of a write had waited.",
            buckets=buckets,
            sum_value=stats.queue_delay_seconds,
        )

    def _labelled(self, name: str, text: str, label: str, counts: Iterable[tuple[Enum, int]]) -> Metric:
        family = CounterMetricFamily(f"{self._prefix}_{name}", text, labels=[label])
        for kind, count in counts:
            family.add_metric([kind.name.lower()], count)
        return family

    def _gauge(self, name: str, text: str, value: int) -> Metric:
        return GaugeMetricFamily(f"{self._prefix}_{name}", text, value=value)

    def _counter(self, name: str, text: str, value: int) -> Metric:
        return CounterMetricFamily(f"{self._prefix}_{name}", text, value=value)
