"""Every metric of the control server. Only shells touch them; the pure core returns values to count."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

from warren_runtime.acme.keeper import AcmeCollector, CertificateKeeper
from warren_runtime.derp_server import DerpService
from warren_runtime.listener import Listener
from warren_runtime.listener_metrics import ListenerCollector
from warren_runtime.relay_metrics import RelayCollector, StunCollector
from warren_runtime.stun_server import StunServer

PREFIX: Final = "warren_control"


class Registration(Enum):
    """How a register request ended."""

    ADMITTED = "admitted"
    RENEWED = "renewed"
    UNCHANGED = "unchanged"
    EXPIRY = "expiry"
    EXPIRED = "expired"
    LOGOUT = "logout"
    PENDING = "pending"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"


class MapMessage(Enum):
    """What a message of a map stream was."""

    FULL = "full"
    DELTA = "delta"
    KEEP_ALIVE = "keep_alive"
    LOGGED_OUT = "logged_out"


class SshCheckResult(Enum):
    """What a destination was told about an SSH connection that a `check` rule matches."""

    HELD = "held"
    APPROVED = "approved"
    REMEMBERED = "remembered"
    """An earlier approval still lasts."""
    DENIED = "denied"
    EXPIRED = "expired"
    REFUSED = "refused"
    """There was nothing to wait for."""


class ConnectionEnd(Enum):
    """Why a client connection ended."""

    CLOSED = "closed"
    PROTOCOL_ERROR = "protocol_error"
    UNRESPONSIVE = "unresponsive"
    STALLED = "stalled"


class PortsCollector(Collector):
    """What the listener, the embedded relay and STUN count themselves."""

    def __init__(
        self,
        listener: Listener,
        relay: DerpService | None,
        stun: StunServer | None,
        certificates: CertificateKeeper | None = None,
    ) -> None:
        self._parts: list[Collector] = [ListenerCollector(PREFIX, listener)]
        if relay is not None:
            self._parts.append(RelayCollector(f"{PREFIX}_relay", relay))
        if stun is not None:
            self._parts.append(StunCollector(PREFIX, stun))
        if certificates is not None:
            self._parts.append(AcmeCollector(PREFIX, certificates))

    def collect(self) -> Iterator[Metric]:
        for part in self._parts:
            yield from part.collect()


class ControlMetrics:
    """The metrics of one server."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry: Final = registry
        self.nodes = Gauge("warren_control_nodes", "Nodes that are members.", registry=registry)
        self.streams = Gauge("warren_control_map_streams", "Nodes that are connected.", registry=registry)
        self.revision = Gauge("warren_control_revision", "Changes since the start.", registry=registry)
        self.connections = Gauge(
            "warren_control_connections", "Open encrypted client connections.", registry=registry
        )
        self.registrations = Counter(
            "warren_control_registrations_total",
            "Register requests by result.",
            ["result"],
            registry=registry,
        )
        self.maps = Counter(
            "warren_control_map_responses_total",
            "Messages on map streams by kind.",
            ["kind"],
            registry=registry,
        )
        self.map_bytes = Counter(
            "warren_control_map_response_bytes_total", "Bytes of map messages.", registry=registry
        )
        self.waiting = Gauge(
            "warren_control_map_streams_waiting",
            "Nodes that have not taken yet all that they were sent.",
            registry=registry,
        )
        self.map_delivery = Histogram(
            "warren_control_map_delivery_seconds",
            "Time from a change to its sending to the last node.",
            registry=registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
        )
        self.map_build = Histogram(
            "warren_control_map_build_seconds",
            "Time to build the first message of a stream.",
            registry=registry,
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0),
        )
        self.ends = Counter(
            "warren_control_connection_ends_total",
            "Ended client connections by reason.",
            ["reason"],
            registry=registry,
        )
        self.ssh_checks = Counter(
            "warren_control_ssh_checks_total",
            "SSH connections under a check rule by what their destination was told.",
            ["result"],
            registry=registry,
        )
        self.ssh_checks_waiting = Gauge(
            "warren_control_ssh_checks_waiting",
            "SSH connections that nobody has decided about.",
            registry=registry,
        )
        self.record_file_failures = Counter(
            "warren_control_dns_records_file_failures_total",
            "Times the file of extra DNS records could not be used.",
            registry=registry,
        )
        self.database_seconds = Histogram(
            "warren_control_database_seconds", "Time to store records.", registry=registry
        )
        self.database_failing = Gauge(
            "warren_control_database_failing",
            "1 while records cannot be stored: the server answers and changes nothing.",
            registry=registry,
        )
        self.policy_version = Gauge(
            "warren_control_policy_version", "Version of the newest accepted policy.", registry=registry
        )
        self.policy_failing = Gauge(
            "warren_control_policy_failing",
            "1 while the policy in force is not the one that was written last.",
            registry=registry,
        )
        self.policy_refusals = Counter(
            "warren_control_policy_refusals_total", "Policies that were not accepted.", registry=registry
        )
        self.task_failures = Counter(
            "warren_control_task_failures_total", "Failures of inner tasks.", ["task"], registry=registry
        )
        # Sums and counts appear with their first value otherwise, and alarms watch from the start.
        self.database_failing.set(0)
        for result in Registration:
            self.registrations.labels(result.value)
        for kind in MapMessage:
            self.maps.labels(kind.value)
        for check in SshCheckResult:
            self.ssh_checks.labels(check.value)
        for reason in ConnectionEnd:
            self.ends.labels(reason.value)

    def stored(self, seconds: float, succeeded: bool) -> None:
        """A write to the database ended."""
        self.database_seconds.observe(seconds)
        self.database_failing.set(0 if succeeded else 1)
