"""A stock ``tailscaled`` on a host of the lab, driven through its own command line as a person would."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from warren_lab.errors import ProcessError
from warren_lab.hosts.sockets import ask_unix
from warren_lab.process import Process
from warren_lab.run import Run
from warren_lab.tools import Toolbox

PORT: Final = 41641
# Longer names of Unix sockets are refused by the kernel.
MAX_SOCKET_PATH: Final = 107


class Tailscaled:
    """One stock client. A context manager that stops the daemon; the run would do it too."""

    def __init__(
        self,
        run: Run,
        toolbox: Toolbox,
        name: str,
        *,
        namespace: str,
        ca_file: Path | None = None,
        interface: str = "tailscale0",
        port: int = PORT,
        release: str | None = None,
        in_memory: bool = False,
    ) -> None:
        """``release`` is one of :data:`warren_lab.tools.STOCK`; None takes the toolbox's plain one.

        With ``in_memory`` the daemon keeps no state, logs out when it ends, and is ephemeral by its own wish.
        """
        self.name = name
        self.namespace = namespace
        self._run = run
        self._client = toolbox.path("tailscale", release)
        self.folder = run.path / "tailscale" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket = self.folder / "daemon.sock"
        if len(str(self.socket)) > MAX_SOCKET_PATH:
            raise ProcessError(f"the path {self.socket} is too long for a socket")
        environment = {"TS_NO_LOGS_NO_SUPPORT": "true", "TS_DEBUG_FIREWALL_MODE": "nftables"}
        if ca_file is not None:
            environment["SSL_CERT_FILE"] = str(ca_file)
        self._command = [
            str(toolbox.path("tailscaled", release)),
            f"--state={'mem:' if in_memory else self.folder / 'state'}",
            f"--statedir={self.folder}",
            f"--socket={self.socket}",
            f"--tun={interface}",
            f"--port={port}",
        ]
        self._environment = environment
        self.process = self._start()

    def _start(self) -> Process:
        process = self._run.start(
            f"tailscaled-{self.name}",
            self._command,
            namespace=self.namespace,
            environment=self._environment,
        )
        process.wait_until(self._answers, "its local socket answers")
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.process.stop()

    def restart(self) -> None:
        """End the daemon at once and start it with the same state."""
        self.process.kill()
        self.start()

    def start(self) -> None:
        """Start the daemon again with the same state."""
        self.process = self._start()

    def command(self, *arguments: str) -> list[str]:
        """A ``tailscale`` command as a list of words."""
        return [str(self._client), f"--socket={self.socket}", *arguments]

    def spawn(self, *arguments: str) -> Process:
        """A ``tailscale`` command that may take long; its log is what it prints."""
        return self._run.start(
            f"tailscale-{self.name}-{arguments[0]}",
            self.command(*arguments),
            namespace=self.namespace,
        )

    def ok(self, *arguments: str, timeout_seconds: float = 30.0) -> str:
        """What a ``tailscale`` command prints; fails if it does."""
        return self._checked(arguments, timeout_seconds)

    def up_command(self, login_server: str, key_file: Path, *flags: str) -> list[str]:
        """The command that joins a mesh; the key stays in a file, out of sight of ``ps``."""
        return [
            *("tailscale", f"--socket={self.socket}", "up", f"--login-server={login_server}"),
            *(f"--auth-key=file:{key_file}", f"--hostname={self.name}", "--accept-dns=false", *flags),
        ]

    def up(
        self,
        login_server: str,
        auth_key: str,
        *,
        accept_routes: bool = True,
        flags: Sequence[str] = (),
        timeout_seconds: float = 60.0,
    ) -> None:
        """Join a mesh with a pre-auth key and wait until the daemon says that it runs."""
        key_file = self.folder / "auth-key"
        key_file.touch(mode=0o600)
        key_file.write_text(auth_key)
        routes = f"--accept-routes={'true' if accept_routes else 'false'}"
        command = self.up_command(login_server, key_file, routes, f"--timeout={timeout_seconds:.0f}s", *flags)
        self._checked(command[2:], timeout_seconds + 10)

    def status(self) -> dict[str, Any]:
        """What ``tailscale status --json`` says."""
        document = json.loads(self._checked(["status", "--json"]))
        if not isinstance(document, dict):
            raise ProcessError(f"tailscale status of {self.name} is not an object")
        return document

    def peer(self, address: str) -> dict[str, Any]:
        """How it sees the peer with this mesh address, without a command's start; empty if it cannot say."""
        try:
            document = ask_unix(self.socket, "/localapi/v0/status", host="local-tailscaled.sock")
        except OSError:
            return {}
        peers = (document.get("Peer") or {}).values()
        return next((dict(peer) for peer in peers if address in (peer.get("TailscaleIPs") or ())), {})

    def addresses(self) -> list[str]:
        """Its mesh addresses."""
        return self._checked(["ip"]).split()

    def ping(
        self, target: str, *, until_direct: bool = False, count: int = 1, timeout_seconds: float = 30.0
    ) -> str:
        """The output of ``tailscale ping``; fails if nothing answered (or, if asked, no path got direct)."""
        limits = [f"--until-direct={'true' if until_direct else 'false'}", f"--c={count}", "--timeout=5s"]
        return self._checked(["ping", *limits, target], timeout_seconds)

    def down(self) -> None:
        """Leave for now; the login stays."""
        self._checked(["down"])

    def logout(self) -> None:
        self._checked(["logout"])

    def call(
        self, arguments: Sequence[str], timeout_seconds: float = 30.0, *, prefix: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run ``tailscale`` against this daemon, through another program (``env``) if ``prefix`` says so."""
        command = [*prefix, str(self._client), f"--socket={self.socket}", *arguments]
        return self._run.call(command, namespace=self.namespace, timeout_seconds=timeout_seconds)

    def _checked(self, arguments: Sequence[str], timeout_seconds: float = 30.0) -> str:
        answer = self.call(arguments, timeout_seconds)
        if answer.returncode != 0:
            raise ProcessError(
                f"`tailscale {arguments[0]}` on {self.name} failed: "
                f"{(answer.stderr.strip() or answer.stdout.strip())[-500:]}"
            )
        return answer.stdout

    def _answers(self) -> bool:
        return self.socket.exists() and bool(self.call(["status", "--json"]).stdout)
