"""Programs that the lab puts on its hosts: Warren, stock Tailscale and its relay, Headscale, web, iperf."""

from warren_lab.hosts.derper import Derper
from warren_lab.hosts.headscale import Headscale
from warren_lab.hosts.iperf import IperfServer, throughput_gbits
from warren_lab.hosts.tailscale import Tailscaled
from warren_lab.hosts.warren import WarrenAgent, WarrenControl
from warren_lab.hosts.web import fetch, serve_folder

__all__ = [
    "Derper",
    "Headscale",
    "IperfServer",
    "Tailscaled",
    "WarrenAgent",
    "WarrenControl",
    "fetch",
    "serve_folder",
    "throughput_gbits",
]
