"""What runs inside the virtual machine for `kernel_plane`: one line of JSON, in Gbit/s, for each turn.

home --+            +-- office
       +- internet -+
control (with relay)
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from warren_lab.certificates import Authority
from warren_lab.errors import ProcessError
from warren_lab.hosts import IperfServer, WarrenControl
from warren_lab.hosts.iperf import throughput_gbits
from warren_lab.net import Network, PublicHost, Topology
from warren_lab.patience import patient
from warren_lab.process import entering
from warren_lab.run import Run
from warren_lab.scenario.nodes import OurNode, Via
from warren_lab.tools import Toolbox

CONTROL: Final = IPv4Address("203.0.113.10")
ENDS: Final = {"home": IPv4Address("203.0.113.11"), "office": IPv4Address("203.0.113.12")}
BY_HAND: Final = {"home": "10.77.0.1", "office": "10.77.0.2"}
LINK: Final = "hand0"
PORT: Final = 51999
MTU: Final = 1280
TRANSFER_SECONDS: Final = 5
DIRECT_SECONDS: Final = 60.0


def main(turns: int) -> None:
    plan = Topology(
        public_hosts=(
            PublicHost("control", CONTROL),
            *(PublicHost(name, address) for name, address in ENDS.items()),
        )
    )
    with Run() as run, Network(plan, run.prefix) as network:
        control = WarrenControl(
            run,
            "control",
            namespace=network.namespace("control"),
            address=CONTROL,
            authority=Authority.create(run.path / "ca"),
        )
        # The kernel carries the packets: no WireGuard program is started.
        toolbox = Toolbox({"wireguard": Path("/nonexistent")}, {})
        nodes = {
            name: OurNode(
                run,
                toolbox,
                name,
                namespace=network.namespace(name),
                control=control,
                settings={"data_plane": "kernel"},
            )
            for name in ENDS
        }
        for node in nodes.values():
            node.begin()
        for node in nodes.values():
            node.joined()
        set_by_hand(network, run.path)
        IperfServer(run, "office", namespace=network.namespace("office"))
        home, target = network.namespace("home"), nodes["office"].address
        wait_direct(nodes["home"], home, target)
        for _ in range(turns):
            figures = {
                "agents": throughput_gbits(run, home, target, seconds=TRANSFER_SECONDS),
                "by_hand": throughput_gbits(run, home, BY_HAND["office"], seconds=TRANSFER_SECONDS),
            }
            print(json.dumps(figures), flush=True)
        for node in nodes.values():
            node.abandon()


def set_by_hand(network: Network, folder: Path) -> None:
    """The same module, the same hosts and the same size of packets, with `ip` and `wg` alone."""
    keys = {name: _output(["wg", "genkey"]) for name in ENDS}
    for name, other in (("home", "office"), ("office", "home")):
        file = folder / f"{name}.key"
        file.touch(mode=0o600)
        file.write_text(keys[name])
        public = _output(["wg", "pubkey"], text=keys[other])
        peer = ["peer", public, "allowed-ips", f"{BY_HAND[other]}/32", "endpoint", f"{ENDS[other]}:{PORT}"]
        for command in (
            ["ip", "link", "add", LINK, "mtu", str(MTU), "type", "wireguard"],
            ["wg", "set", LINK, "private-key", str(file), "listen-port", str(PORT), *peer],
            ["ip", "addr", "add", f"{BY_HAND[name]}/24", "dev", LINK],
            ["ip", "link", "set", LINK, "up"],
        ):
            _output(entering(command, network.namespace(name)))


def _output(command: list[str], text: str | None = None) -> str:
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def wait_direct(node: OurNode, namespace: str, target: str) -> None:
    """Packets flow, and flow directly."""
    deadline = time.monotonic() + patient(DIRECT_SECONDS)
    while node.via(target) is not Via.DIRECT:
        if time.monotonic() > deadline:
            raise ProcessError("the agents found no direct path")
        ping = ["ping", "-c", "1", "-W", "2", target]
        subprocess.run(entering(ping, namespace), capture_output=True, check=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
