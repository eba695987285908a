"""Every metric of the relay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from warren_runtime.acme.keeper import AcmeCollector, CertificateKeeper
from warren_runtime.relay_metrics import StunCollector
from warren_runtime.stun_server import StunServer

from .admission import AdmissionResult, ListAdmission, MemberAdmission
from .paths import RelayPath

PREFIX: Final = "warren_relay"


class AdmissionCollector(Collector):
    """How requests to use the relay ended."""

    def __init__(self, admission: MemberAdmission | ListAdmission) -> None:
        self._admission = admission

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            f"{PREFIX}_admissions", "Answers to clients that want to use the relay.", labels=["result"]
        )
        for result in AdmissionResult:
            family.add_metric([result.value], self._admission.results[result])
        yield family


def registry(
    paths: Sequence[RelayPath],
    stun: StunServer | None,
    admission: MemberAdmission | ListAdmission | None,
    certificates: CertificateKeeper | None = None,
) -> CollectorRegistry:
    """A registry of its own: nothing is registered at import."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    for path in paths:
        for collector in path.collectors():
            made.register(collector)
    if stun is not None:
        made.register(StunCollector(PREFIX, stun))
    if admission is not None:
        made.register(AdmissionCollector(admission))
    if certificates is not None:
        made.register(AcmeCollector(PREFIX, certificates))
    return made
