"""What a cluster of the lab is: plain values and the addresses that follow from them.

Pure. Knows nothing of files, processes or namespaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from warren_lab.errors import LabError

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class ClusterError(LabError):
    """A cluster of the lab failed, or what was asked of it did; the text says what and where to look."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """One cluster of one node inside an existing network namespace."""

    name: str
    namespace: str
    """Network namespace, by its name under ``/run/netns``."""
    node_ip: IPv4Address
    pod_cidr: IPv4Network
    service_cidr: IPv4Network
    pod_mtu: int = 1500
    upstream_dns: tuple[str, ...] = ()
    """Where CoreDNS sends what is not the cluster's; empty: nowhere."""

    def __post_init__(self) -> None:
        if not _LABEL.fullmatch(self.name):
            raise ClusterError(f"cluster name {self.name!r} must be a DNS label of at most 32 characters")
        if self.pod_cidr.overlaps(self.service_cidr):
            raise ClusterError(f"pod range {self.pod_cidr} overlaps the service range {self.service_cidr}")
        if self.node_ip in self.pod_cidr or self.node_ip in self.service_cidr:
            raise ClusterError(f"node address {self.node_ip} lies inside the cluster's own ranges")
        if self.pod_cidr.prefixlen > 28 or self.service_cidr.prefixlen > 28:
            raise ClusterError("pod and service ranges need at least 16 addresses each")

    @property
    def node_pod_cidr(self) -> IPv4Network:
        """The part of the pod range that the only node gets: its first /24, or all if it is smaller."""
        if self.pod_cidr.prefixlen >= 24:
            return self.pod_cidr
        return next(self.pod_cidr.subnets(new_prefix=24))

    @property
    def api_service_ip(self) -> IPv4Address:
        """Kubernetes gives its own API the first address of the service range."""
        return self.service_cidr[1]

    @property
    def dns_service_ip(self) -> IPv4Address:
        return self.service_cidr[10]

    @property
    def api_url(self) -> str:
        return f"https://{self.node_ip}:6443"
