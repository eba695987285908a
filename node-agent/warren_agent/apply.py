"""Runs a plan: network actions in a thread, WireGuard's in batches. What fails is reported, the rest goes on,
and the next round repairs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Protocol

from warren_agent.host import Device, Host, Network, Peer
from warren_agent.kernel.device import DeviceState, WireGuardDevice
from warren_agent.kernel.interfaces import PeerConfig, WireGuardError
from warren_agent.plan import (
    Action,
    AddPeer,
    ChangePeer,
    ConfigureDevice,
    RemovePeer,
    network_order,
    plan,
)
from warren_wire.addresses import AddrPort
from warren_wire.keys import NodePrivate, NodePublic

_WireGuardAction = ConfigureDevice | AddPeer | ChangePeer | RemovePeer


class KernelNetwork(Protocol):
    """Blocking access to everything but WireGuard; `kernel.network.HostNetwork` is the real one."""

    def observe(self) -> Host: ...

    def apply(self, actions: Iterable[Action]) -> list[str]: ...


def _peers_of(state: DeviceState) -> dict[NodePublic, Peer]:
    return {
        key: Peer(frozenset(stats.allowed_ips), has_endpoint=stats.endpoint is not None)
        for key, stats in state.peers.items()
    }


def _device_of(state: DeviceState) -> Device | None:
    return None if state.public is None else Device(state.public, state.listen_port, state.fwmark)


class Applier:
    """Brings the host to what is desired."""

    def __init__(
        self,
        *,
        network: KernelNetwork,
        wireguard: WireGuardDevice,
        private: NodePrivate,
        loopback_endpoint: Callable[[NodePublic], AddrPort],
    ) -> None:
        self._network = network
        self._wireguard = wireguard
        self._private = private
        self._loopback_endpoint = loopback_endpoint
        self._believed: Host | None = None

    async def observe(self) -> Host:
        host = await asyncio.to_thread(self._network.observe)
        state = await self._wireguard.device()
        return replace(host, device=_device_of(state), peers=_peers_of(state))

    async def round(
        self, desired: Host, *, remove: bool = True, look: bool = True
    ) -> tuple[list[Action], list[str]]:
        """Observe, plan, apply. Returns what was done and what failed.

        Without `look` the host is taken to be as the last good round left it, if there was one: reading
        back thousands of routes and peers for one that changed costs more than all the rest.
        """
        believed = self._believed if not look and remove else None
        self._believed = None
        actions = plan(desired, believed or await self.observe(), remove=remove)
        problems: list[str] = []
        for of_wireguard, group in groupby(actions, key=lambda action: isinstance(action, _WireGuardAction)):
            batch = list(group)
            if of_wireguard:
                problems += await self._apply_wireguard(batch)
            else:
                problems += await asyncio.to_thread(self._network.apply, batch)
        if not problems and remove:
            self._believed = desired
        return actions, problems

    async def _apply_wireguard(self, actions: Sequence[Action]) -> list[str]:
        changed: list[PeerConfig] = []
        removed: list[NodePublic] = []
        try:
            for action in actions:
                match action:
                    case ConfigureDevice(device):
                        await self._wireguard.configure(self._private, device.listen_port, device.mark)
                    case AddPeer(key, peer):
                        changed.append(PeerConfig(key, _ordered(peer), self._loopback_endpoint(key)))
                    case ChangePeer(key, peer):
                        changed.append(PeerConfig(key, _ordered(peer)))
                    case RemovePeer(key):
                        removed.append(key)
            if changed or removed:
                await self._wireguard.update(changed, removed)
        except WireGuardError as error:
            return [str(error)]
        return []


def _ordered(peer: Peer) -> tuple[Network, ...]:
    return tuple(sorted(peer.allowed_ips, key=network_order))
