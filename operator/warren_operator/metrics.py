"""Every metric of the operator."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

LOOKS: Final = Counter(
    "warren_operator_looks_total", "Times an object was reconciled", ["resource", "outcome"]
)
ACTIONS: Final = Counter(
    "warren_operator_actions_total", "Objects written for a Mesh or DerpRelay", ["action", "outcome"]
)
for _action in ("apply", "delete"):
    for _outcome in ("done", "refused"):
        ACTIONS.labels(_action, _outcome)
