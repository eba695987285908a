"""Every metric of the agent but those of its paths."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

REGISTRATIONS: Final = Counter(
    "warren_agent_registrations", "Answers of the control server to registrations.", ["outcome"]
)
CONTROL_CONNECTED: Final = Gauge("warren_agent_control_connected", "1 while the map stream is open.")
MAP_RESPONSES: Final = Counter("warren_agent_map_responses", "Messages of the map stream.", ["kind"])
APPLIES: Final = Counter(
    "warren_agent_applies", "Rounds that brought the host to the network map.", ["outcome"]
)
ACTIONS: Final = Counter("warren_agent_actions", "Changes made to the host.")
PEERS: Final = Gauge("warren_agent_peers", "Members that this node may reach.")
ROUTES_REFUSED: Final = Gauge("warren_agent_routes_refused", "Ranges of members that are not used.")
WIREGUARD_RESTORED: Final = Counter(
    "warren_agent_wireguard_restored", "Times that the WireGuard device was gone and set up again."
)

for _outcome in ("accepted", "refused"):
    REGISTRATIONS.labels(_outcome)
for _kind in ("full", "delta", "keep_alive"):
    MAP_RESPONSES.labels(_kind)
for _outcome in ("unchanged", "changed", "failed"):
    APPLIES.labels(_outcome)
