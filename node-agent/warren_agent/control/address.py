"""Where the control server is, from its URL. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class ServerAddress:
    url: str
    host: str
    port: int
    secure: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """`url` was checked when the settings were read."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port if parts.port is not None else (443 if secure else 80)
        return cls(url.rstrip("/"), parts.hostname or "", port, secure)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"
