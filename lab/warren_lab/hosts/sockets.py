"""Small questions that sockets answer, asked from inside a namespace."""

from __future__ import annotations

import socket

from warren_lab.net import namespaces


def accepts_tcp(namespace: str, address: str, port: int, timeout_seconds: float = 1.0) -> bool:
    """Does something accept connections there?"""

    def attempt() -> bool:
        try:
            with socket.create_connection((address, port), timeout_seconds):
                return True
        except OSError:
            return False

    return namespaces.inside(namespace, attempt)
