"""A STUN server: one datagram in, one out, from the address that was asked. No state, no rate limit.

No limit, because a lost answer looks like a change of network to a client; an answer is hardly longer than
its question, so there is nothing to amplify.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
import socket
import struct
from collections import Counter
from ipaddress import ip_address
from typing import Final

from warren_wire import stun
from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError

logger = logging.getLogger(__name__)

# Linux values that the standard library does not name before Python 3.14.
_IP_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8)
_IPV6_RECVPKTINFO: Final = socket.IPV6_RECVPKTINFO
_IPV6_PKTINFO: Final = socket.IPV6_PKTINFO

_BATCH: Final = 64
"""Datagrams per turn of the loop, so that a flood does not stop everything else."""
_READ_BYTES: Final = 2048
_CONTROL_BYTES: Final = socket.CMSG_SPACE(20)


class StunResult(enum.Enum):
    """What became of a datagram."""

    SUCCESS = "success"
    NOT_STUN = "not_stun"
    READ_ERROR = "read_error"
    WRITE_ERROR = "write_error"


class StunServer:
    """Answers on one port of an address; an empty host means every address of both families."""

    def __init__(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """With `reuse_port` several processes answer on one port."""
        self._host = host
        self._reuse_port = reuse_port
        self._wanted_port = port
        self._sockets: list[socket.socket] = []
        self.results: Counter[StunResult] = Counter()
        self.families: Counter[int] = Counter()
        """Answers by IP version."""

    @property
    def port(self) -> int:
        """The port really used (for port 0)."""
        return int(self._sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Bind and answer; OSError if that is not possible."""
        loop = asyncio.get_running_loop()
        try:
            for sock in _bind(self._host, self._wanted_port, self._reuse_port):
                self._sockets.append(sock)
        except OSError:
            await self.close()
            raise
        for sock in self._sockets:
            loop.add_reader(sock.fileno(), self._answer_batch, sock)

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()

    def _answer_batch(self, sock: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                data, control, _, source = sock.recvmsg(_READ_BYTES, _CONTROL_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An ICMP error for an earlier answer; the socket is as good as before.
                self.results[StunResult.READ_ERROR] += 1
                continue
            self.results[self._answer(sock, data, control, source)] += 1

    def _answer(
        self, sock: socket.socket, data: bytes, control: list[tuple[int, int, bytes]], source: tuple[str, int]
    ) -> StunResult:
        try:
            txid = stun.parse_binding_request(data)
        except DecodeError:
            return StunResult.NOT_STUN
        address = ip_address(source[0].partition("%")[0])
        response = stun.binding_response(txid, AddrPort(address, source[1]))
        try:
            sock.sendmsg([response], _from_same_address(control), 0, source)
        except OSError:
            return StunResult.WRITE_ERROR
        self.families[address.version] += 1
        return StunResult.SUCCESS


def _bind(host: str, port: int, reuse_port: bool) -> list[socket.socket]:
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return [_bound(family, host, port, reuse_port)]
    first = _bound(socket.AF_INET, "0.0.0.0", port, reuse_port)  # noqa: S104
    try:
        return [first, _bound(socket.AF_INET6, "::", int(first.getsockname()[1]), reuse_port)]
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            # A host without IPv6 serves IPv4.
            return [first]
        first.close()
        raise


def _bound(family: socket.AddressFamily, host: str, port: int, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Each family has its own socket: no mapped addresses to undo.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _from_same_address(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Control data that makes an answer leave from the address the question came to.

    Behind a NAT an answer from another address of a host with several never arrives.
    """
    for level, kind, value in control:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            # in_pktinfo: interface, the local address, the destination in the header.
            return [(level, kind, struct.pack("=I4s4s", 0, value[4:8], bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            return [(level, kind, value[:16] + bytes(4))]
    return []
