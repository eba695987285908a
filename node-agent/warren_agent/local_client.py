"""Asking a running agent over its Unix socket. Blocking, and quick to load: a command line is short."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from warren_agent.errors import AgentError, SetupError

ANSWER_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 1.0


class RequestError(AgentError):
    """The question cannot be answered; the text is for the person who asked."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, method: str, question: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Ask a running agent. Raises `SetupError` if none answers, `RequestError` if it cannot say."""
    connection = _UnixConnection(path)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        connection.request(method, f"/{question}", body=content, headers=headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (http.client.HTTPException, ValueError, OSError) as error:
        denied = isinstance(error, PermissionError)
        how = "run with sudo" if denied else "start it with 'warren-agent up --config FILE'"
        raise SetupError(f"no agent answers at {path}; {how}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise RequestError(str(answer.get("error", f"status {response.status}")))
    return dict(answer)


def is_served(path: Path) -> bool:
    """Whether an agent answers there. Blocks for no longer than a moment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(LOOK_SECONDS)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
