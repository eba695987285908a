"""The WireGuard device: found, made or waited for, in the kernel or in user space."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final, Protocol

from warren_agent import requirements
from warren_agent.config import Config, DataPlane
from warren_agent.errors import KernelError, SetupError
from warren_agent.kernel.device import WireGuardDevice
from warren_agent.kernel.links import add_wireguard_link, find_link, remove_link
from warren_agent.kernel.rtnetlink import rtnetlink
from warren_agent.kernel.uapi import UapiWireGuard
from warren_agent.kernel.wireguard_netlink import KernelWireGuard, kernel_has_wireguard
from warren_agent.kernel.wireguard_process import WireGuardProcess

logger = logging.getLogger(__name__)

_WAIT_SECONDS: Final = 0.2
KERNEL_KIND: Final = "wireguard"


class Plane(Protocol):
    """One kind of WireGuard device."""

    kind: DataPlane
    wireguard: WireGuardDevice

    async def ensure(self) -> bool:
        """Wait until there is a device; True if it is new. Raises `SetupError`."""


def link_index(interface: str) -> int | None:
    """The interface's number, which changes when it is made anew."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return None


class UserspacePlane:
    kind = DataPlane.USERSPACE

    def __init__(self, config: Config) -> None:
        self._config = config
        self._process = wireguard_process(config)
        self.wireguard: WireGuardDevice = UapiWireGuard(self._process.socket_path)

    async def ensure(self) -> bool:
        if await asyncio.to_thread(self._process.answers):
            return False
        if self._config.userspace_external:
            await asyncio.to_thread(self._make_room)
            logger.info("waiting for WireGuard", extra={"socket": str(self._process.socket_path)})
            # Another container makes the socket; its folder may not exist yet, so there is nothing to watch.
            while not await asyncio.to_thread(self._process.answers):  # noqa: ASYNC110
                await asyncio.sleep(_WAIT_SECONDS)
            return True
        interface = self._config.interface
        if link_index(interface) is not None:
            raise SetupError(
                f"interface {interface} exists and no WireGuard program answers for it;"
                f" remove it with 'ip link del {interface}' or set interface to another name"
            )
        await asyncio.to_thread(self._process.start)
        return True

    def _make_room(self) -> None:
        """A kernel device of ours from before the settings were changed keeps the other container's program
        from starting, and nobody else would remove it.
        """
        try:
            with rtnetlink() as ip:
                link = find_link(ip, self._config.interface)
                if link is not None and link.kind == KERNEL_KIND:
                    logger.warning("removing the kernel's WireGuard device, user space is wanted")
                    remove_link(ip, link.index)
        except KernelError as error:
            raise SetupError(f"cannot remove interface {self._config.interface}: {error}") from error


class KernelPlane:
    kind = DataPlane.KERNEL

    def __init__(self, config: Config) -> None:
        self._interface = config.interface
        self.wireguard: WireGuardDevice = KernelWireGuard(config.interface)

    async def ensure(self) -> bool:
        return await asyncio.to_thread(self._ensure)

    def _ensure(self) -> bool:
        try:
            with rtnetlink() as ip:
                link = find_link(ip, self._interface)
                if link is None:
                    add_wireguard_link(ip, self._interface)
                    return True
        except KernelError as error:
            raise SetupError(f"cannot make interface {self._interface}: {error}") from error
        if link.kind != KERNEL_KIND:
            raise SetupError(
                f"interface {self._interface} exists and is not WireGuard;"
                f" remove it with 'ip link del {self._interface}' or set interface to another name"
            )
        return False


def wireguard_process(config: Config) -> WireGuardProcess:
    return WireGuardProcess(
        interface=config.interface,
        program=config.userspace_program,
        uapi_dir=config.uapi_dir,
        state_dir=config.state_dir,
    )


def _began_in_userspace(config: Config) -> bool:
    """In a pod whose folder for sockets is its own; the agent and its companion must answer alike."""
    return wireguard_process(config).socket_path.exists()


def companion_command(config: Config, *, in_kernel: bool) -> list[str]:
    """What the container beside the agent runs: the userspace program, or nothing where the kernel is chosen.

    A socket left by an earlier program says that userspace was chosen before; changing would end sessions.
    """
    if in_kernel and not _began_in_userspace(config):
        # The first process of a container ignores a signal that it does not handle.
        return ["/bin/sh", "-c", "trap 'exit 0' TERM INT; sleep infinity & wait"]
    return [config.userspace_program, "-f", config.interface]


def choose(config: Config) -> Plane:
    """The kernel where it can, unless a userspace device runs already: changing planes would end sessions.

    Blocks. Raises `SetupError` where the chosen plane cannot work.
    """
    wanted = config.data_plane
    if wanted is DataPlane.AUTO:
        running = wireguard_process(config).answers()
        running = running or (config.userspace_external and _began_in_userspace(config))
        in_kernel = not running and kernel_has_wireguard()
        wanted = DataPlane.KERNEL if in_kernel else DataPlane.USERSPACE
    if wanted is DataPlane.KERNEL:
        if not kernel_has_wireguard():
            raise SetupError(
                "this kernel has no WireGuard; load it with 'modprobe wireguard' or set data_plane: userspace"
            )
        return KernelPlane(config)
    requirements.require_userspace_program(config)
    return UserspacePlane(config)
