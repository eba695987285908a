"""A stock Headscale with its own relay and STUN, as another control server for our agents."""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

import yaml

from warren_lab.certificates import Authority
from warren_lab.errors import ProcessError
from warren_lab.hosts.sockets import accepts_tcp
from warren_lab.run import Run
from warren_lab.tools import Toolbox

PORT: Final = 443
STUN_PORT: Final = 3478
_REGION: Final = 999


class Headscale:
    """At ``https://<address>``, with one user and a reusable join key of that user."""

    def __init__(
        self,
        run: Run,
        toolbox: Toolbox,
        name: str,
        *,
        namespace: str,
        address: IPv4Address,
        authority: Authority,
    ) -> None:
        self.url = f"https://{address}"
        self.ca_file = authority.pair.certificate
        self.folder = run.path / "headscale" / name
        pair = authority.issue(self.folder, [str(address)])
        self._program = str(toolbox.path("headscale"))
        self._run, self._namespace = run, namespace
        self._config = self.folder / "config.yaml"
        self._config.write_text(yaml.safe_dump(self._settings(address, pair.certificate, pair.key)))
        self.process = run.start(
            f"headscale-{name}",
            [self._program, "--config", str(self._config), "serve"],
            namespace=namespace,
        )
        self.process.wait_until(
            lambda: accepts_tcp(namespace, "127.0.0.1", PORT), f"it listens on port {PORT}"
        )
        self._call("users", "create", "home")
        (user,) = json.loads(self._call("users", "list"))
        key = json.loads(
            self._call(
                "preauthkeys", "create", "--user", str(user["id"]), "--reusable", "--expiration", "24h"
            )
        )
        self.join_key_file = self.folder / "join"
        self.join_key_file.touch(mode=0o600)
        self.join_key_file.write_text(key["key"])

    @property
    def join_key(self) -> str:
        return self.join_key_file.read_text()

    def nodes(self) -> list[dict[str, Any]]:
        """Its members, as its command line lists them."""
        return list(json.loads(self._call("nodes", "list")) or ())

    def approve_routes(self, node: int, *prefixes: str) -> None:
        """Let a node serve these routes."""
        self._call("nodes", "approve-routes", "--identifier", str(node), "--routes", ",".join(prefixes))

    def close(self) -> None:
        self.process.stop()

    def _settings(self, address: IPv4Address, certificate: Path, key: Path) -> dict[str, Any]:
        return {
            "server_url": self.url,
            "listen_addr": f"0.0.0.0:{PORT}",
            "metrics_listen_addr": "127.0.0.1:9090",
            "grpc_listen_addr": "127.0.0.1:50443",
            "tls_cert_path": str(certificate),
            "tls_key_path": str(key),
            "noise": {"private_key_path": str(self.folder / "noise.key")},
            "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48", "allocation": "sequential"},
            "derp": {
                "server": {
                    "enabled": True,
                    "region_id": _REGION,
                    "region_code": "home",
                    "region_name": "Home",
                    "verify_clients": True,
                    "stun_listen_addr": f"0.0.0.0:{STUN_PORT}",
                    "private_key_path": str(self.folder / "derp.key"),
                    "automatically_add_embedded_derp_region": True,
                    "ipv4": str(address),
                },
                "urls": [],
                "auto_update_enabled": False,
            },
            "database": {"type": "sqlite", "sqlite": {"path": str(self.folder / "db.sqlite")}},
            "dns": {"magic_dns": False, "base_domain": "mesh.internal", "override_local_dns": False},
            "policy": {"mode": "file", "path": ""},
            "disable_check_updates": True,
            "unix_socket": str(self.folder / "headscale.sock"),
        }

    def _call(self, *arguments: str) -> str:
        command = [self._program, "--config", str(self._config), *arguments, "--output", "json"]
        answer: subprocess.CompletedProcess[str] = self._run.call(command, namespace=self._namespace)
        if answer.returncode != 0:
            raise ProcessError(
                f"`headscale {' '.join(arguments[:2])}` failed: {answer.stderr.strip()[-500:]}"
            )
        return answer.stdout
