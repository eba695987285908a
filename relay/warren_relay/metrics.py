"""Every metric of the relay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from warren_runtime.derp_server import DerpService
from warren_runtime.listener import Listener
from warren_runtime.relay_metrics import RelayCollector
from warren_runtime.stun_server import StunServer

from .admission import AdmissionResult, MemberAdmission

PREFIX: Final = "warren_relay"


class AdmissionCollector(Collector):
    """How requests to use the relay ended."""

    def __init__(self, admission: MemberAdmission) -> None:
        self._admission = admission

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            f"{PREFIX}_admissions", "Answers to clients that want to use the relay.", labels=["result"]
        )
        for result in AdmissionResult:
            family.add_metric([result.value], self._admission.results[result])
        yield family


def registry(
    derp: DerpService, stun: StunServer | None, listener: Listener, admission: MemberAdmission | None
) -> CollectorRegistry:
    """A registry of its own: nothing is registered at import."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    made.register(RelayCollector(PREFIX, derp, stun=stun, listener=listener))
    if admission is not None:
        made.register(AdmissionCollector(admission))
    return made
