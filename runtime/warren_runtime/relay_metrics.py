"""Prometheus metrics of a relay, a STUN server and a listener, read from their counters when asked.

Nothing is touched per packet. Labels come from enums, never from keys or addresses.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .derp_server import DerpService
from .http_head import HeadFault
from .listener import Listener
from .stun_server import StunResult, StunServer


class RelayCollector(Collector):
    """Metrics named `PREFIX_...`; give it to `registry.register`."""

    def __init__(
        self,
        prefix: str,
        derp: DerpService,
        *,
        stun: StunServer | None = None,
        listener: Listener | None = None,
    ) -> None:
        self._prefix = prefix
        self._derp = derp
        self._stun = stun
        self._listener = listener

    def collect(self) -> Iterable[Metric]:
        yield from self._relay()
        if self._stun is not None:
            results = self._stun.results
            counts = [(result, results[result]) for result in StunResult]
            yield self._labelled("stun_requests", "Datagrams at the STUN port.", "result", counts)
        if self._listener is not None:
            faults = self._listener.faults
            text = "Connections that ended before a request was read."
            yield self._gauge("connections", "Open connections of every kind.", self._listener.connections)
            yield self._labelled("bad_heads", text, "reason", [(fault, faults[fault]) for fault in HeadFault])

    def _relay(self) -> Iterable[Metric]:
        stats = self._derp.stats()
        yield self._gauge("clients", "Keys with at least one connection.", stats.clients)
        yield self._gauge("client_connections", "Connections of clients.", stats.connections)
        yield self._gauge("home_clients", "Connections that have this relay as home.", stats.home_clients)
        yield self._gauge("queued_bytes", "Bytes waiting for receivers.", stats.queued_bytes)
        yield self._counter("clients_accepted", "Clients let in.", stats.accepted)
        yield self._counter("bytes_received", "Bytes read from clients.", stats.bytes_received)
        yield self._counter("bytes_sent", "Bytes written to clients.", stats.bytes_sent)
        yield self._counter("packets_received", "Packets to forward.", stats.packets_received)
        yield self._counter("packets_sent", "Packets forwarded.", stats.packets_sent)
        yield self._counter("unknown_frames", "Frames of unknown type, skipped.", stats.unknown_frames)
        drops, closes, gone = stats.drops.items(), stats.closes.items(), stats.peer_gone.items()
        yield self._labelled("packets_dropped", "Packets not forwarded.", "reason", drops)
        yield self._labelled("connections_closed", "Ended connections of clients.", "reason", closes)
        yield self._labelled("peer_gone_notices", "Notices that a peer cannot be reached.", "reason", gone)

    def _labelled(self, name: str, text: str, label: str, counts: Iterable[tuple[Enum, int]]) -> Metric:
        family = CounterMetricFamily(f"{self._prefix}_{name}", text, labels=[label])
        for kind, count in counts:
            family.add_metric([kind.name.lower()], count)
        return family

    def _gauge(self, name: str, text: str, value: int) -> Metric:
        return GaugeMetricFamily(f"{self._prefix}_{name}", text, value=value)

    def _counter(self, name: str, text: str, value: int) -> Metric:
        return CounterMetricFamily(f"{self._prefix}_{name}", text, value=value)
