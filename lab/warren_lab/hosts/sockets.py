"""Small questions that sockets answer: inside a namespace, or of a program's local HTTP socket."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from warren_lab.net import namespaces

ANSWER_SECONDS = 5.0


def accepts_tcp(namespace: str, address: str, port: int, timeout_seconds: float = 1.0) -> bool:
    """Does something accept connections there?"""

    def attempt() -> bool:
        try:
            with socket.create_connection((address, port), timeout_seconds):
                return True
        except OSError:
            return False

    return namespaces.inside(namespace, attempt)


def ask_unix(path: Path, target: str, *, host: str) -> dict[str, Any]:
    """The JSON object that a program answers at its Unix socket. Raises `OSError` when it answers none."""
    status, document = call_unix(path, "GET", target, host=host)
    if status != 200 or not isinstance(document, dict):
        raise OSError(f"{path} answered {target} with status {status}")
    return document


def call_unix(path: Path, method: str, target: str, body: object = None, *, host: str) -> tuple[int, Any]:
    """Status and JSON of an answer, None for an empty one. Raises `OSError` when there is none."""
    connection = http.client.HTTPConnection(host, timeout=ANSWER_SECONDS)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_SECONDS)
        sock.connect(str(path))
        connection.sock = sock
        try:
            connection.request(method, target, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else None
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"{path} answered no JSON: {error}") from error
