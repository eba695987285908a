"""WireGuard in the kernel, over generic netlink. Requests are few and small; each is one blocking round trip
in a thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from warren_agent.kernel import wireguard_codec as codec
from warren_agent.kernel.device import DeviceState
from warren_agent.kernel.interfaces import PeerConfig, PeerStats, WireGuardError
from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError
from warren_wire.keys import NodePrivate, NodePublic

_NETLINK_GENERIC: Final = 16
_RECEIVE_BYTES: Final = 256 * 1024
_TIMEOUT_SECONDS: Final = 5.0
_DUMP_TRIES: Final = 5


class _DumpChangedError(Exception):
    """The device was changed between two messages of a dump, which may miss peers or tell them twice."""


class _Conversation:
    """One generic netlink socket. Not for several threads at a time."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_GENERIC
        )
        self._socket.settimeout(_TIMEOUT_SECONDS)
        self._socket.bind((0, 0))
        self._sequence = 0
        self._family: int | None = None

    def close(self) -> None:
        self._socket.close()

    def family(self) -> int:
        if self._family is None:
            self._sequence += 1
            answers = self._exchange(codec.family_request(self._sequence))
            if not answers:
                raise WireGuardError("the kernel does not know WireGuard")
            self._family = codec.family_id(answers[0])
        return self._family

    def request(self, payload: bytes, *, dump: bool = False) -> list[bytes]:
        family = self.family()
        flags = codec.REQUEST | (codec.DUMP if dump else codec.ACK)
        for _ in range(_DUMP_TRIES):
            self._sequence += 1
            try:
                return self._exchange(codec.message(family, flags, self._sequence, payload))
            except _DumpChangedError:
                continue
        raise WireGuardError("the device changes faster than it can be read")

    def _exchange(self, request: bytes) -> list[bytes]:
        """The payloads up to the acknowledgement or the end of the dump."""
        self._socket.send(request)
        payloads: list[bytes] = []
        changed = False
        while True:
            for answer in codec.messages(self._socket.recv(_RECEIVE_BYTES)):
                if answer.sequence != self._sequence:
                    continue
                changed |= bool(answer.flags & codec.DUMP_INTERRUPTED)
                if answer.type in {codec.NLMSG_ERROR, codec.NLMSG_DONE}:
                    code = codec.error_code(answer.payload) if answer.payload else 0
                    if code:
                        raise OSError(code, os.strerror(code))
                    if changed:
                        raise _DumpChangedError
                    return payloads
                payloads.append(answer.payload)


def kernel_has_wireguard() -> bool:
    """Asking for the family makes the kernel load its module where there is one."""
    try:
        conversation = _Conversation()
    except OSError:
        return False
    try:
        conversation.family()
    except (OSError, WireGuardError, DecodeError):
        return False
    finally:
        conversation.close()
    return True


class KernelWireGuard:
    """A device of the kernel module, by the name of its interface."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._lock = asyncio.Lock()
        self._conversation: _Conversation | None = None

    async def configure(self, private: NodePrivate, listen_port: int, fwmark: int) -> None:
        state = await self.device()
        await self._request(
            codec.set_device_payload(
                self._interface,
                None if state.private == private else private,
                None if state.listen_port == listen_port else listen_port,
                None if state.fwmark == fwmark else fwmark,
            )
        )

    async def update(self, set: Sequence[PeerConfig], remove: Sequence[NodePublic]) -> None:  # noqa: A002
        blocks = [block for peer in set for block in codec.peer_blocks(peer)]
        blocks += [codec.removal_block(key) for key in remove]
        for payload in codec.set_peers_payloads(self._interface, blocks):
            await self._request(payload)

    async def set_endpoint(self, peer: NodePublic, endpoint: AddrPort) -> None:
        (payload,) = codec.set_peers_payloads(self._interface, [codec.endpoint_block(peer, endpoint)])
        await self._request(payload)

    async def peers(self) -> Mapping[NodePublic, PeerStats]:
        return (await self.device()).peers

    async def device(self) -> DeviceState:
        dump = codec.DeviceDump()
        payloads = await self._request(codec.get_device_payload(self._interface), dump=True)
        try:
            for payload in payloads:
                dump.feed(payload)
        except DecodeError as error:
            raise WireGuardError(f"the kernel's answer about {self._interface} is not understood") from error
        return DeviceState(dump.private, dump.listen_port, dump.fwmark, dump.peers())

    async def close(self) -> None:
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.close()

    async def _request(self, payload: bytes, *, dump: bool = False) -> list[bytes]:
        async with self._lock:
            try:
                return await asyncio.to_thread(self._blocking_request, payload, dump)
            except (OSError, DecodeError) as error:
                await self.close()
                reason = getattr(error, "strerror", None) or "no answer"
                raise WireGuardError(f"kernel WireGuard on {self._interface}: {reason}") from error

    def _blocking_request(self, payload: bytes, dump: bool) -> list[bytes]:
        if self._conversation is None:
            self._conversation = _Conversation()
        return self._conversation.request(payload, dump=dump)
