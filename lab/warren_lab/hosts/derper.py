"""The stock relay server ``derper`` on a public host, with a certificate of the lab."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from warren_lab.certificates import Authority
from warren_lab.hosts.sockets import accepts_tcp
from warren_lab.run import Run
from warren_lab.tools import Toolbox

STUN_PORT: Final = 3478


class Derper:
    """A relay at ``https://<host_name>:<port>`` with STUN beside it."""

    def __init__(
        self,
        run: Run,
        toolbox: Toolbox,
        name: str,
        *,
        namespace: str,
        authority: Authority,
        host_name: str,
        port: int = 443,
        stun_port: int = STUN_PORT,
        verify_url: str | None = None,
        mesh_key_file: Path | None = None,
        mesh_with: Sequence[str] = (),
    ) -> None:
        """With ``mesh_key_file`` it is one relay of a region, and calls those of ``mesh_with``."""
        self.host_name = host_name
        folder = run.path / "derper" / name
        # It looks for files named after the host name.
        authority.issue(folder, [host_name])
        command = [
            str(toolbox.path("derper")),
            f"--a=:{port}",
            "--http-port=-1",
            "--certmode=manual",
            f"--certdir={folder}",
            f"--hostname={host_name}",
            f"--c={folder / 'derper.json'}",
            "--stun",
            f"--stun-port={stun_port}",
        ]
        if verify_url is not None:
            command += [f"--verify-client-url={verify_url}", "--verify-client-url-fail-open=false"]
        if mesh_key_file is not None:
            command += [f"--mesh-psk-file={mesh_key_file}", f"--mesh-with={','.join(mesh_with)}"]
        environment = {"SSL_CERT_FILE": str(authority.pair.certificate)}
        self.process = run.start(f"derper-{name}", command, namespace=namespace, environment=environment)
        self.process.wait_until(
            lambda: accepts_tcp(namespace, "127.0.0.1", port), f"it listens on port {port}"
        )

    @property
    def log(self) -> Path:
        return self.process.log

    def close(self) -> None:
        self.process.stop()
