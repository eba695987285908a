"""A service's certificate from files that somebody else renews."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from .opening import ServerTls
from .tasks import supervise
from .tls import ReloadingContext


class FileCertificate:
    """What a service serves at once, and the task that follows the files; like `AcmeService`."""

    def __init__(self, certificate: Path, key: Path, extra: Callable[[], bytes] | None = None) -> None:
        """`TlsError` if the files cannot be used. `extra` as for `ReloadingContext`."""
        self._reloading = ReloadingContext(certificate, key, extra)

    @property
    def tls(self) -> ServerTls:
        return ServerTls(self._reloading.context)

    def notes(self) -> list[str]:
        return []

    async def start(self, stack: AsyncExitStack, *, reuse_port: bool = False) -> None:
        """Follow the files until the stack ends; there is no port of its own to share."""
        watching = asyncio.create_task(supervise("certificate", self._reloading.watch), name="certificate")
        stack.callback(watching.cancel)
