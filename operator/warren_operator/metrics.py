"""Every metric of the operator."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

LOOKS: Final = Counter(
    "warren_operator_looks_total", "Times an object was reconciled", ["resource", "outcome"]
)
ACTIONS: Final = Counter("warren_operator_actions_total", "Writes to the Kubernetes API", ["action"])
MACHINES: Final = Gauge("warren_operator_machines", "Machines registered at managed control servers")
