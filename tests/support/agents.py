"""Real agents and a real control server in the namespaces of a small network.

home --+            +-- office
       +- internet -+
control (203.0.113.10)
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import yaml

from support.lab import eventually
from warren_lab.certificates import Authority
from warren_lab.net import Network, PublicHost, Topology
from warren_lab.patience import patient
from warren_lab.process import Process, entering

CONTROL = IPv4Address("203.0.113.10")
HOME = IPv4Address("203.0.113.11")
OFFICE = IPv4Address("203.0.113.12")
JOIN_KEY = "join-key-of-the-test-mesh-0123456789"
COUNTED = "nf_conntrack_count"
"""A figure among the kernel's settings, not one of them."""
RANGES = {"home": "10.1.0.0/16", "office": "10.2.0.0/16"}


def topology() -> Topology:
    return Topology(
        routers=(),
        public_hosts=(PublicHost("control", CONTROL), PublicHost("home", HOME), PublicHost("office", OFFICE)),
    )


@dataclass
class AgentHost:
    """An agent on a host: its settings, its process and what a person may ask it."""

    network: Network
    name: str
    folder: Path
    settings: dict[str, Any]
    process: Process | None = None

    @property
    def namespace(self) -> str:
        return self.network.namespace(self.name)

    @property
    def interface(self) -> str:
        return str(self.settings["interface"])

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.yaml"

    def start(self) -> None:
        if self.process is not None:
            self.process.kill()
        self.file.write_text(yaml.safe_dump(self.settings))
        self.process = Process(
            f"agent {self.name}",
            [sys.executable, "-m", "warren_agent", "up", "--config", str(self.file)],
            log=self.log,
            namespace=self.namespace,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the agent that ends by itself."""
        self.file.write_text(yaml.safe_dump(self.settings))
        command = [sys.executable, "-m", "warren_agent", *arguments, "--config", str(self.file)]
        return subprocess.run(
            entering(command, self.namespace),
            capture_output=True,
            text=True,
            timeout=patient(60),
            check=False,
        )

    def status(self) -> dict[str, Any]:
        answer = self.run("status", "--output", "json")
        return dict(json.loads(answer.stdout)) if answer.returncode == 0 else {}

    def ready(self) -> bool:
        status = self.status()
        return bool(status) and status["control"]["connected"] and bool(status["node"]["addresses"])

    def address(self) -> str:
        return str(self.status()["node"]["addresses"][0])

    def peer(self, name: str) -> dict[str, Any]:
        return next((peer for peer in self.status().get("peers", []) if peer["name"] == name), {})

    def wireguard_pid(self) -> int:
        return int(json.loads((self.folder / self.name / "wireguard.json").read_text())["pid"])

    def traces(self) -> list[str]:
        """Everything of the host's network: an agent may touch none of it for good."""
        found = []
        for command in (
            ["ip", "-d", "link"],
            ["sysctl", "-a", "-e", "-r", r"^net\."],
            ["ip", "addr"],
            ["ip", "rule"],
            ["ip", "-6", "rule"],
            ["ip", "route", "show", "table", "all"],
            ["ip", "-6", "route", "show", "table", "all"],
            ["nft", "list", "ruleset"],
        ):
            answer = subprocess.run(
                entering(command, self.namespace), capture_output=True, text=True, check=True
            )
            found.append("\n".join(line for line in answer.stdout.splitlines() if COUNTED not in line))
        sockets = Path("/var/run/wireguard").glob(f"{self.interface}.sock")
        return [*found, *map(str, sockets), str(Path(self.settings["socket"]).exists())]


@dataclass
class Mesh:
    network: Network
    folder: Path
    wireguard: str
    control: Process | None = None
    hosts: dict[str, AgentHost] = field(default_factory=dict)

    def start_control(self) -> None:
        config = self.folder / "control.yaml"
        self.control = Process(
            "control",
            [sys.executable, "-m", "warren_control", "serve", "--config", str(config)],
            log=self.folder / "control.log",
            namespace=self.network.namespace("control"),
        )
        self.control.wait_until(self._control_answers, "the control server answered")

    def _control_answers(self) -> bool:
        def attempt() -> bool:
            try:
                socket.create_connection((str(CONTROL), 443), 1.0).close()
            except OSError:
                return False
            return True

        return self.network.inside("home", attempt)

    def host(self, name: str, **settings: Any) -> AgentHost:
        """An agent that is not started yet."""
        given: dict[str, Any] = {
            "server_url": f"https://{CONTROL}",
            "auth_key_file": str(self.folder / "join"),
            "ca_file": str(self.folder / "ca.crt"),
            "hostname": name,
            "state_dir": str(self.folder / name),
            # The program's socket has the interface's name in one folder of the machine.
            "interface": f"w{os.getpid() % 10_000_000}{name[:3]}",
            "userspace": {"program": self.wireguard},
            "socket": str(self.folder / f"{name}.sock"),
            "advertise_routes": [RANGES[name]],
            "keep_source": {"local": [RANGES[name]]},
        }
        host = AgentHost(self.network, name, self.folder, given | settings)
        self.hosts[name] = host
        return host

    def joined(self, *names: str) -> list[AgentHost]:
        """Agents that have joined."""
        hosts = [self.host(name) for name in names]
        for host in hosts:
            host.start()
        for host in hosts:
            assert eventually(host.ready, within=30.0), host.log.read_text()
        return hosts

    def close(self) -> None:
        for host in self.hosts.values():
            if host.process is not None:
                host.process.kill()
            host.run("cleanup")
        if self.control is not None:
            self.control.kill()


def _write_files(folder: Path) -> None:
    pair = Authority.create(folder).issue(folder, [str(CONTROL)])
    (folder / "join").write_text(JOIN_KEY)
    (folder / "token").write_text("token-of-the-administrator")
    settings = {
        "server_url": f"https://{CONTROL}",
        "listen": "0.0.0.0:443",
        "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
        "health_listen": "127.0.0.1:9090",
        "database": f"sqlite:///{folder}/control.db",
        "noise_key_file": str(folder / "noise.key"),
        "derp_key_file": str(folder / "derp.key"),
        "admin_token_file": str(folder / "token"),
        "relay": {"enabled": True, "host": str(CONTROL), "stun_listen": "0.0.0.0:3478"},
        "bootstrap_keys": [
            {"secret_file": str(folder / "join"), "reusable": True, "approve_routes": ["10.0.0.0/8"]}
        ],
    }
    (folder / "control.yaml").write_text(yaml.safe_dump(settings))


@contextmanager
def mesh(folder: Path, wireguard: str, plan: Topology | None = None) -> Iterator[Mesh]:
    """A control server that runs; agents are started by the test and removed here.

    `plan` is another network with the hosts `control`, `home` and `office`.
    """
    with Network(plan or topology()) as network:
        _write_files(folder)
        running = Mesh(network, folder, wireguard)
        try:
            running.start_control()
            yield running
        finally:
            running.close()
