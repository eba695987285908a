"""docs/operating.md names every metric, with its kind and labels, and every field of the logs."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric

from support.doc_tables import ROOT, table
from warren_agent.metrics import PathCollector
from warren_agent.paths.counters import PathCounters, TransportCounters
from warren_control.metrics import ControlMetrics, PortsCollector
from warren_operator import metrics as operator_metrics
from warren_relay.admission import MemberAdmission
from warren_relay.metrics import AdmissionCollector
from warren_runtime.acme.keeper import AcmeCollector
from warren_runtime.acme.service import AcmeService, prepare
from warren_runtime.acme.settings import AcmeSettings
from warren_runtime.derp_server import DerpService
from warren_runtime.listener import Listener
from warren_runtime.relay_metrics import RelayCollector
from warren_runtime.stun_server import StunServer
from warren_wire.keys import NodePrivate, NodePublic

DOCUMENT = "operating.md"
SERVICES = (
    "runtime/warren_runtime",
    "control-server/warren_control",
    "relay/warren_relay",
    "node-agent/warren_agent",
    "operator/warren_operator",
)


async def admit(_key: NodePublic, _source: str) -> bool:
    return True


@pytest.fixture
async def exported(tmp_path: Path) -> AsyncIterator[dict[str, Metric]]:
    """Every metric of every service by the name it is exported under."""
    derp = DerpService(NodePrivate.from_seed(bytes(32)), admit)
    listener, stun = Listener(web.Application(), {}), StunServer("127.0.0.1", 0)
    registry = CollectorRegistry()
    # These two have no series before something happened.
    ControlMetrics(registry).task_failures.labels("any")
    operator_metrics.LOOKS.labels("any", "done")
    settings = AcmeSettings(names=("relay.example.net",))
    prepare(settings, tmp_path)
    keeper = AcmeService(settings, tmp_path).keeper
    registry.register(PortsCollector(listener, derp, stun, keeper))
    registry.register(AcmeCollector("warren_relay", keeper))
    registry.register(RelayCollector("warren_relay", derp, stun=stun, listener=listener))
    registry.register(
        PathCollector(
            paths=PathCounters(),
            transport=TransportCounters(),
            status=dict,
            carried=lambda: {("direct", "sent"): 0},
        )
    )
    async with aiohttp.ClientSession() as session:
        registry.register(AdmissionCollector(MemberAdmission(session, "https://203.0.113.10/verify")))
        yield {_exported_name(metric): metric for metric in (*registry.collect(), *_of_modules())}


def _of_modules() -> Iterator[Metric]:
    """Those that are made when their modules are read."""
    return (metric for metric in REGISTRY.collect() if metric.name.startswith("warren_"))


def _exported_name(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


async def test_every_metric_is_in_the_table_with_its_kind_and_labels(exported: dict[str, Metric]) -> None:
    documented = table(DOCUMENT, "metric")
    assert exported.keys() == documented.names
    kinds, labels = documented.column("kind"), documented.column("labels")
    for name, metric in exported.items():
        assert kinds[name] == metric.type, name
        found = {label for sample in metric.samples for label in sample.labels} - {"le"}
        assert {label.strip(" `") for label in labels[name].split(",") if label} == found, name


def test_every_field_of_the_logs_is_in_the_table() -> None:
    found = {
        str(key.value)
        for folder in SERVICES
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if isinstance(key, ast.Constant)
    }
    assert found == table(DOCUMENT, "field", "## Logs").names


def test_the_sentences_of_the_troubleshooting_table_are_said_somewhere() -> None:
    """A sentence in `code` that a program prints, up to the first thing that varies."""
    source = "\n".join(file.read_text() for folder in SERVICES for file in (ROOT / folder).rglob("*.py"))
    for sentence in (
        "the control server refused to register this node",
        "invalid pre-auth key",
        "already used",
        "has expired",
        "http:// works only with a private address",
        "relay client refused",
        "is missing although the database exists",
        "exists and no WireGuard program answers for it",
        "another agent uses ",
        "cannot reach ",
    ):
        assert sentence in source
        assert sentence.strip() in (ROOT / "docs" / DOCUMENT).read_text().replace("…", "")
