"""The entry of a DerpRelay in the relay map, and where its replicas are reached."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from warren_operator.kinds import Manifest
from warren_operator.resources.derprelay import DerpRelay


@dataclass(frozen=True, slots=True, order=True)
class HostAddress:
    """Where one replica is reached; a family that it has not is empty."""

    v4: str
    v6: str

    @property
    def shown(self) -> str:
        return self.v4 or f"[{self.v6}]"


def region(relay: DerpRelay, cert_name: str, hosts: Sequence[HostAddress] = ()) -> Manifest:
    """In the shape clients know: one node, or one for each of `hosts`.

    `cert_name` pins a certificate of our own making. It is the same for all replicas and good for the
    relay's host, which therefore is the name that clients ask each of them for.
    """
    reached = hosts if relay.has_hosts else [_literal(relay.host)]
    return {
        "RegionID": relay.region_id,
        "RegionCode": relay.region_code,
        "RegionName": relay.region_name,
        "Nodes": [_node(relay, cert_name, index, host) for index, host in enumerate(reached)],
    }


def hosts_of(pods: Iterable[Manifest], machines: dict[str, Manifest]) -> list[HostAddress]:
    """Where pods on their nodes' network are reached; `machines` are the cluster's nodes by name.

    A node's external address where it has one: its internal one is mostly private then.
    """
    found = set()
    for pod in pods:
        status = pod.get("status") or {}
        addresses = [entry["ip"] for entry in status.get("hostIPs") or []] or [status.get("hostIP")]
        if "deletionTimestamp" in pod["metadata"] or not any(addresses):
            continue
        machine = machines.get(pod["spec"].get("nodeName", ""), {})
        listed = (machine.get("status") or {}).get("addresses") or []
        external = [entry["address"] for entry in listed if entry["type"] == "ExternalIP"]
        found.add(_host(external or addresses))
    return sorted(found)


def _node(relay: DerpRelay, cert_name: str, index: int, host: HostAddress | None) -> Manifest:
    node: Manifest = {
        "Name": f"{relay.region_id}{chr(ord('a') + index)}",
        "RegionID": relay.region_id,
        "HostName": relay.host,
        "DERPPort": relay.derp_port,
        "STUNPort": relay.stun_port,
    }
    if host is not None:
        # Naming one family switches the other off, or clients would look the address up as a name.
        node["IPv4"] = host.v4 or "none"
        node["IPv6"] = host.v6 or "none"
    if cert_name:
        node["CertName"] = cert_name
    return node


def _literal(host: str) -> HostAddress | None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return _host([host])


def _host(addresses: Iterable[str]) -> HostAddress:
    """The first of each family."""
    by_family = {4: "", 6: ""}
    for address in addresses:
        family = ipaddress.ip_address(address).version
        by_family[family] = by_family[family] or address
    return HostAddress(by_family[4], by_family[6])
