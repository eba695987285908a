"""One request inside the encrypted channel and the way to answer it. Knows no request in particular."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from warren_wire.keys import MachinePublic


class Responder(Protocol):
    """Sends on one stream of a connection. A client that takes nothing for long loses its connection."""

    def respond(self, status: int, headers: Sequence[tuple[str, str]], body: bytes, *, end: bool) -> None:
        """Starts the response; with `end` it is complete."""
        ...

    @property
    def idle(self) -> bool:
        """Whether the client has taken all that was sent."""
        ...

    def when_idle(self, act: Callable[[], None]) -> None:
        """Calls `act` once, when it is idle again; a second call before that replaces the first."""
        ...

    def send(self, data: bytes) -> None:
        """Sends more of the body; sent while not idle it is kept in memory."""
        ...

    async def write(self, data: bytes) -> None:
        """Sends more of the body as soon as it is idle."""
        ...

    def finish(self) -> None:
        """Ends the body."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """A complete request of an authenticated machine."""

    machine: MachinePublic
    method: str
    path: str
    body: bytes
    source: str
    """Address of the client."""
    responder: Responder

    def reply(self, status: int, body: bytes = b"", content_type: str = "application/json") -> None:
        headers = [("content-type", content_type)] if body else []
        self.responder.respond(status, headers, b"" if self.method == "HEAD" else body, end=True)

    def reply_later(self, seconds: int, text: str) -> None:
        """Asks the client to come back after some seconds."""
        headers = [("content-type", "text/plain; charset=utf-8"), ("retry-after", str(seconds))]
        self.responder.respond(429, headers, f"{text}\n".encode(), end=True)

    def refuse(self, status: int, text: str) -> None:
        self.reply(status, f"{text}\n".encode(), "text/plain; charset=utf-8")
