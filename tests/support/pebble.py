"""Let's Encrypt's test server, Pebble, on loopback: a certificate authority that checks names and issues."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.certificates import Pair, self_signed
from support.lab import eventually
from warren_lab import tools
from warren_lab.errors import LabError


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Pebble:
    """It finds every name at 127.0.0.1 and checks `tls_port` and `http_port` there."""

    folder: Path
    own: Pair
    program: Path
    environment: dict[str, str]
    tls_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    management: int = field(default_factory=free_port)
    validity_seconds: int = 7 * 86400
    external_accounts: dict[str, str] = field(default_factory=dict)
    dns: str = ""
    running: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> str:
        return f"https://localhost:{self.port}/dir"

    def start(self) -> None:
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.own.certificate),
            "privateKey": str(self.own.key),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "externalAccountBindingRequired": bool(self.external_accounts),
            "externalAccountMACKeys": self.external_accounts,
            "domainBlocklist": ["blocked.example.net"],
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "", "validityPeriod": self.validity_seconds}},
        }
        file = self.folder / "pebble.json"
        file.write_text(json.dumps({"pebble": settings}))
        with (self.folder / "pebble.log").open("ab") as log:
            self.running = subprocess.Popen(
                [self.program, "-config", file, "-dnsserver", self.dns],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        assert eventually(self._answers, 30)

    def stop(self) -> None:
        if self.running is not None:
            self.running.terminate()
            self.running.wait()
            self.running = None

    def root(self, path: Path) -> Path:
        """The certificate that signs what it issues, new with each start."""
        url = f"https://localhost:{self.management}/roots/0"
        context = ssl.create_default_context(cafile=self.own.certificate)
        with urllib.request.urlopen(url, context=context) as answer:
            path.write_bytes(answer.read())
        return path

    def log(self) -> str:
        return (self.folder / "pebble.log").read_text()

    def _answers(self) -> bool:
        assert self.running is not None
        assert self.running.poll() is None, self.log()
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False


@contextmanager
def pebble(folder: Path) -> Iterator[Pebble]:
    """Not started yet, so that a test can say how; ends with the context."""
    try:
        toolbox = tools.ensure(("acme",))
    except LabError as error:
        pytest.skip(str(error))
    dns = free_port()
    with (folder / "dns.log").open("wb") as log:
        names = subprocess.Popen(
            [
                toolbox.path("pebble-challtestsrv"),
                *("-dnsserver", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{free_port()}"),
                *("-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-defaultIPv6", ""),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    environment = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}
    server = Pebble(folder, self_signed(folder, "localhost"), toolbox.path("pebble"), environment)
    server.dns = f"127.0.0.1:{dns}"
    try:
        yield server
    finally:
        server.stop()
        names.terminate()
        names.wait()
