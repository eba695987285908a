"""Prometheus metrics of a listener, read from its counters when asked."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from .http_head import HeadFault
from .listener import Listener
from .tls import TlsFault


class ListenerCollector(Collector):
    """Metrics named `PREFIX_...`."""

    def __init__(self, prefix: str, listener: Listener) -> None:
        self._prefix = prefix
        self._listener = listener

    def collect(self) -> Iterable[Metric]:
        text = "Connections that never got as far as a request."
        faults = CounterMetricFamily(f"{self._prefix}_connection_faults", text, labels=["reason"])
        for fault in HeadFault:
            faults.add_metric([fault.value], self._listener.faults[fault])
        yield faults
        text = "TLS handshakes that failed."
        failures = CounterMetricFamily(f"{self._prefix}_tls_handshake_failures", text, labels=["reason"])
        for failure in TlsFault:
            failures.add_metric([failure.value], self._listener.tls_faults[failure])
        yield failures
