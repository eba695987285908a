"""The ordinary ``miniupnpd`` on a router: gives port mappings by NAT-PMP, PCP and UPnP.

It refuses to serve behind a reserved public address, and every address of the lab's internet is one. So the
router has a second public address that is routed to it, and mappings are made on that one.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from warren_lab.net import Network
from warren_lab.process import Process
from warren_lab.run import Run

PUBLIC: Final = IPv4Address("25.0.0.0")
"""Second public addresses are counted from here; nothing of the lab ever leaves its namespaces."""

_RULES: Final = """
table inet miniupnpd {
  chain forward { type filter hook forward priority 10; policy accept; jump miniupnpd; }
  chain miniupnpd { }
  chain prerouting { type nat hook prerouting priority -101; policy accept; jump prerouting_miniupnpd; }
  chain prerouting_miniupnpd { }
  chain postrouting { type nat hook postrouting priority 99; policy accept; jump postrouting_miniupnpd; }
  chain postrouting_miniupnpd { }
}
"""


class PortMapper:
    """Mappings of one router's port of its own; ends with the run."""

    def __init__(self, run: Run, network: Network, router: str) -> None:
        plan = network.topology.router(router)
        namespace = network.namespace(router)
        self.public_address = PUBLIC + int(plan.wan) % 256
        network.route_to(router, self.public_address)
        network.load_rules(router, _RULES)
        folder = run.path / "port-mapper" / router
        folder.mkdir(parents=True)
        config = folder / "miniupnpd.conf"
        config.write_text(
            "\n".join(
                (
                    "ext_ifname=wan",
                    f"ext_ip={self.public_address}",
                    f"listening_ip={plan.gateway}/{plan.lan.prefixlen}",
                    "enable_natpmp=yes",
                    "enable_upnp=yes",
                    "secure_mode=yes",
                    f"uuid=00000000-0000-4000-8000-{int(plan.wan):012x}",
                    "upnp_table_name=miniupnpd",
                    "upnp_nat_table_name=miniupnpd",
                    "upnp_forward_chain=miniupnpd",
                    "upnp_nat_chain=prerouting_miniupnpd",
                    "upnp_nat_postrouting_chain=postrouting_miniupnpd",
                    f"allow 1024-65535 {plan.lan} 1024-65535",
                    "deny 0-65535 0.0.0.0/0 0-65535",
                    "",
                )
            )
        )
        command = ["miniupnpd", "-d", "-f", str(config), "-P", str(folder / "pid")]
        self.process: Process = run.start(f"miniupnpd-{router}", command, namespace=namespace)
        self.process.wait_until(
            lambda: "NAT-PMP/PCP traffic" in self.process.tail(40), "it listens for NAT-PMP and PCP"
        )
