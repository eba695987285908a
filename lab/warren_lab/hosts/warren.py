"""Warren without Kubernetes: `warren-control` and `warren-agent` on hosts, started as a person does it."""

from __future__ import annotations

import itertools
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import yaml

from warren_lab.certificates import Authority
from warren_lab.errors import ProcessError
from warren_lab.hosts.sockets import accepts_tcp, ask_unix, call_unix
from warren_lab.process import Process
from warren_lab.run import WIREGUARD_SOCKETS, Run
from warren_lab.tools import Toolbox

PORT: Final = 443
STUN_PORT: Final = 3478
_interfaces = itertools.count()


class ControlServer(Protocol):
    """What an agent must know of the server that it joins."""

    @property
    def url(self) -> str: ...

    @property
    def ca_file(self) -> Path: ...

    @property
    def join_key_file(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class ByAnotherAddress:
    """A control server as nodes know it that reach it by another address of its own."""

    url: str
    ca_file: Path
    join_key_file: Path

    @property
    def join_key(self) -> str:
        return self.join_key_file.read_text()


class WarrenControl:
    """A control server at ``https://<address>`` with a reusable join key; its relay and STUN are inside."""

    def __init__(
        self,
        run: Run,
        name: str,
        *,
        namespace: str,
        address: IPv4Address,
        address_v6: IPv6Address | None = None,
        authority: Authority,
        relay: bool = True,
        regions: Sequence[Mapping[str, Any]] = (),
        settings: Mapping[str, Any] | None = None,
        started: bool = True,
    ) -> None:
        """`regions` are further relays, as clients know them; `settings` go over those made here.

        Without `started` it waits for `start`, with its configuration in place.
        """
        self.url = f"https://{address}"
        self.ca_file = authority.pair.certificate
        self.folder = run.path / "control" / name
        self._v6 = address_v6
        pair = authority.issue(self.folder, [str(each) for each in (address, address_v6) if each is not None])
        self.join_key_file = _private(self.folder / "join", f"join-{secrets.token_hex(16)}")
        self._run, self._name, self._namespace = run, name, namespace
        document = {
            "server_url": self.url,
            "listen": f":{PORT}",
            "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
            "database": f"sqlite:///{self.folder}/control.db",
            "noise_key_file": str(self.folder / "noise.key"),
            "derp_key_file": str(self.folder / "derp.key"),
            "admin_socket": str(self.folder / "admin.sock"),
            "admin_token_file": str(_private(self.folder / "token", secrets.token_hex(16))),
            "bootstrap_keys": [{"secret_file": str(self.join_key_file), "reusable": True}],
            "relay": {"enabled": relay, "host": str(address), "stun_listen": f"0.0.0.0:{STUN_PORT}"},
            "regions": [dict(region) for region in regions],
        }
        self._document = document | dict(settings or {})
        self._config = self.folder / "control.yaml"
        self._config.write_text(yaml.safe_dump(self._document))
        if started:
            self.process = self._start()

    @property
    def join_key(self) -> str:
        return self.join_key_file.read_text()

    def api(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and document of a call of the admin API, as an administrator on the host makes it."""
        return call_unix(self.folder / "admin.sock", method, f"/api/v1{path}", body, host="localhost")

    @property
    def by_v6(self) -> ByAnotherAddress:
        """For nodes that have no IPv4."""
        return ByAnotherAddress(f"https://[{self._v6}]", self.ca_file, self.join_key_file)

    def _start(self) -> Process:
        process = self._run.start(
            f"control-{self._name}",
            [sys.executable, "-m", "warren_control", "serve", "--config", str(self._config)],
            namespace=self._namespace,
        )
        process.wait_until(
            lambda: accepts_tcp(self._namespace, "127.0.0.1", PORT), f"it listens on port {PORT}"
        )
        return process

    def restart(self, **settings: Any) -> None:
        """End the server at once and start it with the same state; `settings` go over those it has."""
        self.process.kill()
        self.start(**settings)

    def start(self, **settings: Any) -> None:
        """Start the server again."""
        self._config.write_text(yaml.safe_dump(self._document | settings))
        self.process = self._start()

    def command(self, *arguments: str) -> str:
        """What a command of `warren-control` prints, given beside the server or without it."""
        line = [sys.executable, "-m", "warren_control", *arguments, "--config", str(self._config)]
        answer = self._run.call(line, namespace=self._namespace)
        if answer.returncode != 0:
            raise ProcessError(f"`warren-control {arguments[0]}` failed: {answer.stderr.strip()[-500:]}")
        return answer.stdout

    def close(self) -> None:
        self.process.stop()


class WarrenAgent:
    """A node agent with userspace WireGuard. A context manager that leaves the host as it was found."""

    def __init__(
        self,
        run: Run,
        toolbox: Toolbox,
        name: str,
        *,
        namespace: str,
        control: ControlServer,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Nothing runs before `up`. `settings` go over those made here."""
        self.name = name
        self.folder = run.path / "agent" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run, self._namespace = run, namespace
        self._process: Process | None = None
        self.settings: dict[str, Any] = {
            "server_url": control.url,
            "auth_key_file": str(control.join_key_file),
            "ca_file": str(control.ca_file),
            "hostname": name,
            "state_dir": str(self.folder / "state"),
            # All WireGuard programs of a machine put their sockets into one folder, named by interface.
            "interface": f"wl{os.getpid()}x{next(_interfaces)}",
            "data_plane": "userspace",
            "userspace": {"program": str(toolbox.path("wireguard"))},
            "socket": str(self.folder / "agent.sock"),
            **(settings or {}),
        }
        self._config = self.folder / "agent.yaml"
        self.configure()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process(self) -> Process:
        if self._process is None:
            raise ProcessError(f"the agent {self.name} was not started")
        return self._process

    def up(self) -> None:
        """Give the command; joining goes on."""
        self._process = self._run.start(f"agent-{self.name}", self.command("up"), namespace=self._namespace)

    def configure(self, **settings: Any) -> None:
        """Other settings from the next start on."""
        self.settings |= settings
        self._config.write_text(yaml.safe_dump(self.settings))

    def wait_ready(self, timeout_seconds: float = 30.0) -> None:
        """Wait until it has joined."""
        self.process.wait_until(lambda: bool(self.addresses()), "it joined the mesh", timeout_seconds)

    def close(self) -> None:
        """Leave the mesh for good and take everything of the agent from the host."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        answer = self.call("cleanup", "--purge")
        if answer.returncode != 0 or answer.stderr:
            raise ProcessError(f"the agent {self.name} did not leave its host clean: {answer.stderr.strip()}")

    def abandon(self) -> None:
        """End it at once, on a host that nobody will use again: its namespace takes the rest along."""
        if self._process is not None:
            self._process.kill()
        (WIREGUARD_SOCKETS / f"{self.settings['interface']}.sock").unlink(missing_ok=True)

    def status(self) -> dict[str, Any]:
        """What it says about itself and its peers; empty while it does not answer."""
        try:
            return ask_unix(Path(self.settings["socket"]), "/status", host="agent")
        except OSError:
            return {}

    def addresses(self) -> list[str]:
        """Its mesh addresses; none before it has joined."""
        return list(self.status().get("node", {}).get("addresses", ()))

    def peer(self, address: str) -> dict[str, Any]:
        """How it sees the peer with this mesh address; empty if there is none."""
        peers = self.status().get("peers", ())
        return next((dict(peer) for peer in peers if address in peer["addresses"]), {})

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the agent that ends by itself."""
        return self._run.call(self.command(*arguments), namespace=self._namespace)

    def command(self, *arguments: str) -> list[str]:
        """A command line of the agent, for its namespace."""
        return [sys.executable, "-m", "warren_agent", *arguments, "--config", str(self._config)]


def _private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path
