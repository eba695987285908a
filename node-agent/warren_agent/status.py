"""The document of `warren-agent status`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from warren_agent.control.client import ControlStatus
from warren_agent.desired import Desired
from warren_agent.detours import why_not_direct
from warren_agent.kernel.interfaces import PeerStats
from warren_agent.member import Member
from warren_agent.paths.values import LocalState, PathStatus
from warren_wire.control.messages import DERPMap
from warren_wire.keys import NodePublic

MAX_HISTORY = 50


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a status is made of, taken at one moment."""

    key: NodePublic
    own: Member | None
    members: tuple[Member, ...]
    control: ControlStatus
    derp_map: DERPMap | None
    home_relay: int
    local: LocalState | None
    data_plane: str
    desired: Desired | None
    paths: Mapping[NodePublic, PathStatus]
    wireguard: Mapping[NodePublic, PeerStats]
    now: datetime
    errors: tuple[str, ...]


def text_of(time: datetime | None) -> str | None:
    if time is None:
        return None
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def region_code(derp_map: DERPMap | None, region_id: int) -> str:
    region = (derp_map.regions or {}).get(region_id) if derp_map is not None else None
    return region.region_code if region is not None and region.region_code else str(region_id)


def region_name(derp_map: DERPMap | None, region_id: int) -> str:
    region = (derp_map.regions or {}).get(region_id) if derp_map is not None else None
    return region.region_name if region is not None else ""


def _relay(derp_map: DERPMap | None, region_id: int | None) -> str | None:
    return region_code(derp_map, region_id) if region_id else None


def _addresses(member: Member) -> list[str]:
    return [str(network.network_address) for network in member.addresses]


def _path(path: PathStatus | None, derp_map: DERPMap | None) -> dict[str, Any]:
    if path is None:
        return {
            "path": "idle",
            "endpoint": None,
            "relay": None,
            "since": None,
            "latency_ms": None,
            "history": [],
        }
    latency = path.latency_seconds
    return {
        "path": path.path.value,
        "endpoint": None if path.endpoint is None else str(path.endpoint),
        "relay": _relay(derp_map, path.relay),
        "since": text_of(path.since),
        "latency_ms": None if latency is None else round(latency * 1000, 3),
        "relay_rx_packets": path.relay_rx_packets,
        "relay_tx_packets": path.relay_tx_packets,
        "history": [
            {
                "at": text_of(change.at),
                "path": change.path.value,
                "endpoint": None if change.endpoint is None else str(change.endpoint),
                "reason": change.reason,
            }
            for change in path.history[-MAX_HISTORY:]
        ],
    }


def _handshake(unix_ns: int) -> str | None:
    return text_of(datetime.fromtimestamp(unix_ns / 1e9, tz=UTC)) if unix_ns else None


def _peer(member: Member, snapshot: Snapshot) -> dict[str, Any]:
    stats = snapshot.wireguard.get(member.key)
    path = snapshot.paths.get(member.key)
    peer = snapshot.desired.host.peers.get(member.key) if snapshot.desired is not None else None
    used = peer.allowed_ips if peer is not None else frozenset()
    return {
        "name": member.name,
        "id": member.id,
        "node_key": str(member.key),
        "addresses": _addresses(member),
        "routes": [str(network) for network in member.routes if network in used],
        "online": member.online,
        **_path(path, snapshot.derp_map),
        "not_direct": why_not_direct(member, path, snapshot.local, snapshot.now),
        "rx_bytes": stats.rx_bytes if stats is not None else 0,
        "tx_bytes": stats.tx_bytes if stats is not None else 0,
        "last_handshake": _handshake(stats.last_handshake_unix_ns) if stats is not None else None,
    }


def document(snapshot: Snapshot) -> dict[str, Any]:
    own = snapshot.own
    home = snapshot.home_relay
    control = snapshot.control
    return {
        "node": {
            "name": own.name if own is not None else None,
            "fqdn": own.fqdn if own is not None else None,
            "id": own.id if own is not None else None,
            "addresses": _addresses(own) if own is not None else [],
            "node_key": str(snapshot.key),
        },
        "control": {
            "url": control.url,
            "connected": control.connected,
            "since": text_of(control.since),
            "last_error": control.last_error,
            "login_url": control.login_url,
        },
        "home_relay": {"region_id": home, "code": region_code(snapshot.derp_map, home)} if home else None,
        "endpoints": [str(e) for e in snapshot.local.endpoints] if snapshot.local is not None else [],
        "data_plane": snapshot.data_plane,
        "peers": [_peer(member, snapshot) for member in snapshot.members],
        "errors": list(snapshot.errors),
    }


def find_member(members: Iterable[Member], text: str) -> Member | None:
    """By name, by full name, or by one of its addresses."""
    wanted = text.rstrip(".").lower()
    for member in members:
        if wanted in {member.name.lower(), member.fqdn.lower()} or wanted in _addresses(member):
            return member
    return None
