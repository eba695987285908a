"""Stock clients that can only reach each other through relays of one region, ours or derper.

home -- router without UDP --+            +-- router without UDP -- office
                             +- internet -+
                     control, one, two (the relays)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

import yaml

from warren_lab.certificates import Authority
from warren_lab.hosts import Derper, Tailscaled
from warren_lab.hosts.sockets import accepts_tcp
from warren_lab.net import Network, PublicHost, Router, RouterKind, Topology
from warren_lab.process import Process
from warren_lab.run import Run
from warren_lab.tools import Toolbox

CONTROL: Final = IPv4Address("203.0.113.10")
RELAYS: Final = {"one": IPv4Address("203.0.113.31"), "two": IPv4Address("203.0.113.32")}
REGION: Final = 901
HEALTH_PORT: Final = 9090
_JOIN_KEY: Final = "join-key-of-the-lab-0123456789abcdef"


def topology() -> Topology:
    """The network of this scenario."""
    return Topology(
        routers=(
            Router(
                "home-router",
                IPv4Address("203.0.113.21"),
                IPv4Network("192.168.1.0/24"),
                ("home",),
                kind=RouterKind.UDP_BLOCKED,
            ),
            Router(
                "office-router",
                IPv4Address("203.0.113.22"),
                IPv4Network("192.168.2.0/24"),
                ("office",),
                kind=RouterKind.UDP_BLOCKED,
            ),
        ),
        public_hosts=(
            PublicHost("control", CONTROL),
            *(PublicHost(name, address) for name, address in RELAYS.items()),
        ),
    )


@dataclass
class RelayLab:
    """Control server, relays and clients, started one by one by whoever uses it."""

    run: Run
    network: Network
    authority: Authority = field(init=False)
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.run.path / "relays"
        self.folder.mkdir()
        self.authority = Authority.create(self.folder)
        (self.folder / "mesh.key").write_text("5a" * 32 + "\n")
        (self.folder / "join").write_text(_JOIN_KEY)
        (self.folder / "token").write_text("token-of-the-lab")

    @property
    def ca_file(self) -> Path:
        return self.authority.pair.certificate

    def start_control(self, *names: str, cert_names: dict[str, str] | None = None) -> Process:
        """A control server whose one region has these relays, in this order."""
        pair = self.authority.issue(self.folder, [str(CONTROL)])
        nodes = [_node(index, name, (cert_names or {}).get(name)) for index, name in enumerate(names)]
        region = {"RegionID": REGION, "RegionCode": "lab", "RegionName": "Lab", "Nodes": nodes}
        settings = {
            "server_url": f"https://{CONTROL}",
            "listen": "0.0.0.0:443",
            "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
            "health_listen": "127.0.0.1:9090",
            "database": f"sqlite:///{self.folder}/control.db",
            "noise_key_file": str(self.folder / "noise.key"),
            "derp_key_file": str(self.folder / "derp.key"),
            "admin_token_file": str(self.folder / "token"),
            "relay": {"enabled": False},
            "regions": [region],
            "bootstrap_keys": [{"secret_file": str(self.folder / "join"), "reusable": True}],
        }
        return self._serve("control", "control", "warren_control", settings)

    def start_relay(self, name: str, **settings: Any) -> Process:
        """Our relay on one of the hosts, a member of the region's mesh."""
        state = self.folder / name
        pair = self.authority.issue(state, [str(RELAYS[name])])
        given: dict[str, Any] = {
            "listen": "0.0.0.0:443",
            "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
            "stun_listen": "0.0.0.0:3478",
            "health_listen": f"127.0.0.1:{HEALTH_PORT}",
            "derp_key_file": str(state / "derp.key"),
            "admission": {
                "mode": "members",
                "verify_url": f"https://{CONTROL}/verify",
                "ca_file": str(self.ca_file),
            },
            "mesh": {
                "key_file": str(self.folder / "mesh.key"),
                "peers": [str(address) for address in RELAYS.values()],
                "ca_file": str(self.ca_file),
            },
        }
        return self._serve(f"relay-{name}", name, "warren_relay", given | settings)

    def start_derper(self, name: str, toolbox: Toolbox, *, region: bool = False) -> Derper:
        """The stock relay on one of the hosts; with ``region``, a member of the region's mesh."""
        others = [str(address) for other, address in RELAYS.items() if other != name]
        return Derper(
            self.run,
            toolbox,
            name,
            namespace=self.network.namespace(name),
            authority=self.authority,
            host_name=str(RELAYS[name]),
            mesh_key_file=self.folder / "mesh.key" if region else None,
            mesh_with=others if region else (),
        )

    def join(self, name: str, toolbox: Toolbox, release: str | None = None) -> Tailscaled:
        """A stock client that has joined."""
        namespace = self.network.namespace(name)
        client = Tailscaled(
            self.run, toolbox, name, namespace=namespace, ca_file=self.ca_file, release=release
        )
        client.up(f"https://{CONTROL}", _JOIN_KEY)
        return client

    def metrics(self, name: str, port: int = HEALTH_PORT) -> dict[str, float]:
        """The figures of one of our relays."""
        command = [sys.executable, "-c", _FETCH, f"http://127.0.0.1:{port}/metrics"]
        return metrics_in(self.run.call(command, namespace=self.network.namespace(name)).stdout)

    def _serve(self, title: str, host: str, module: str, settings: dict[str, Any]) -> Process:
        file = self.folder / f"{title}.yaml"
        file.write_text(yaml.safe_dump(settings))
        namespace = self.network.namespace(host)
        process = self.run.start(
            title, [sys.executable, "-m", module, "serve", "--config", str(file)], namespace=namespace
        )
        process.wait_until(lambda: accepts_tcp(namespace, "127.0.0.1", 443), "it listens on port 443")
        return process


_FETCH: Final = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"


def metrics_in(text: str) -> dict[str, float]:
    """The value of each series of a page of metrics."""
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {series: float(value) for series, value in pairs}


def _node(index: int, name: str, cert_name: str | None) -> dict[str, Any]:
    node: dict[str, Any] = {
        "Name": f"{REGION}{'abc'[index]}",
        "RegionID": REGION,
        "HostName": str(RELAYS[name]),
        "IPv4": str(RELAYS[name]),
        "IPv6": "none",
    }
    return node | ({"CertName": cert_name} if cert_name else {})
