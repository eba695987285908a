"""Networks of the lab: a topology as a value, and the namespaces that make it real."""

from warren_lab.net.network import Network
from warren_lab.net.topology import Forward, PublicHost, Router, RouterKind, Topology, Transport

__all__ = ["Forward", "Network", "PublicHost", "Router", "RouterKind", "Topology", "Transport"]
