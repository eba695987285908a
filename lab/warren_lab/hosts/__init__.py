"""Programs that the lab puts on its hosts: stock Tailscale, its relay server, web pages, throughput."""

from warren_lab.hosts.derper import Derper
from warren_lab.hosts.iperf import IperfServer, throughput_gbits
from warren_lab.hosts.tailscale import Tailscaled
from warren_lab.hosts.web import fetch, serve_folder

__all__ = ["Derper", "IperfServer", "Tailscaled", "fetch", "serve_folder", "throughput_gbits"]
