"""A WireGuard device together with its own settings, as the agent's shell needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from warren_agent.kernel.interfaces import PeerStats, WireGuard
from warren_wire.keys import NodePrivate, NodePublic


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A device as it is. The private key is only compared and never shown."""

    private: NodePrivate | None
    listen_port: int
    fwmark: int
    peers: Mapping[NodePublic, PeerStats]

    @property
    def public(self) -> NodePublic | None:
        return None if self.private is None else self.private.public


class WireGuardDevice(WireGuard, Protocol):
    """A WireGuard device that also tells its settings."""

    async def device(self) -> DeviceState:
        """Settings and peers in one consistent read; raises `WireGuardError`."""

    async def close(self) -> None:
        """Let go of sockets; the device goes on."""
