"""Web pages on a host of the lab, and fetching one from another host."""

from __future__ import annotations

import http.client
import sys
from ipaddress import ip_address
from pathlib import Path

from warren_lab.errors import ProcessError
from warren_lab.hosts.sockets import accepts_tcp
from warren_lab.net import namespaces
from warren_lab.process import Process
from warren_lab.run import Run

MAX_PAGE_BYTES = 1024 * 1024


def serve_folder(run: Run, name: str, *, namespace: str, folder: Path, port: int = 80) -> Process:
    """Serve a folder's files; returns when the server listens. Its log shows who asked."""
    process = run.start(
        f"web-{name}",
        [sys.executable, "-u", "-m", "http.server", str(port), "--directory", str(folder)],
        namespace=namespace,
    )
    process.wait_until(lambda: accepts_tcp(namespace, "127.0.0.1", port), f"it listens on port {port}")
    return process


def fetch(namespace: str, address: str, port: int = 80, path: str = "/", timeout_seconds: float = 5.0) -> str:
    """A page, asked for from inside a namespace. Names are not looked up: ``address`` is one."""

    def ask() -> str:
        connection = http.client.HTTPConnection(str(ip_address(address)), port, timeout=timeout_seconds)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read(MAX_PAGE_BYTES).decode(errors="replace")
        finally:
            connection.close()
        if answer.status != 200:
            raise ProcessError(f"http://{address}:{port}{path} answered {answer.status}")
        return body

    try:
        return namespaces.inside(namespace, ask)
    except (OSError, http.client.HTTPException) as error:
        raise ProcessError(f"http://{address}:{port}{path} did not answer: {error}") from error
