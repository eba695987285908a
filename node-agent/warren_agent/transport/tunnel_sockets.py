"""Raw sockets inside the tunnel: TSMP with peers, and ICMP echo.

A host without a listener for TSMP's protocol answers each message of a peer with an ICMP error. A packet
counts only if it came in through our interface: WireGuard has then proven its source address.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address
from typing import Final

from warren_agent.paths.actions import IPAddress
from warren_agent.transport.packets import checksum
from warren_wire import tsmp
from warren_wire.errors import DecodeError

IP_PKTINFO: Final = 8
IPV6_RECVPKTINFO: Final = 49
IPV6_PKTINFO: Final = 50
MAX_BYTES: Final = 2048
READS_PER_WAKE: Final = 64

OnTsmp = Callable[[tsmp.TsmpMessage, IPAddress], None]


class TsmpSockets:
    """One raw socket per family. `on_message` gets each message with the tunnel address it came from."""

    def __init__(self, interface: str, on_message: OnTsmp, on_malformed: Callable[[], None]) -> None:
        self._interface = interface
        self._on_message = on_message
        self._on_malformed = on_malformed
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[int, socket.socket] = {}
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            # A host without IPv6 has one of them.
            with contextlib.suppress(OSError):
                sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, tsmp.IP_PROTOCOL)
                if version == 4:
                    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
                else:
                    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
                self._sockets[version] = sock
                self._loop.add_reader(sock.fileno(), self._readable, version, sock)

    def close(self) -> None:
        for sock in self._sockets.values():
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def send(self, message: tsmp.TsmpMessage, destination: IPAddress) -> bool:
        """False if it cannot be sent now."""
        sock = self._sockets.get(destination.version)
        if sock is None:
            return False
        try:
            sock.sendto(tsmp.encode(message), (str(destination), 0))
        except OSError:
            return False
        return True

    def _readable(self, version: int, sock: socket.socket) -> None:
        for _ in range(READS_PER_WAKE):
            try:
                data, ancillary, _, address = sock.recvmsg(MAX_BYTES, 128)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue
            if not self._came_by_tunnel(ancillary):
                self._on_malformed()
                continue
            # IPv4 raw sockets give the IP header too, with its length in words in the lower half of byte 0.
            payload = data[(data[0] & 15) * 4 :] if version == 4 and data else data
            try:
                message = tsmp.parse(payload)
            except DecodeError:
                self._on_malformed()
                continue
            if message is not None:
                self._on_message(message, ip_address(address[0].partition("%")[0]))

    def _came_by_tunnel(self, ancillary: list[tuple[int, int, bytes]]) -> bool:
        index = 0
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                index = struct.unpack("=i", value[:4])[0]
            elif level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
                index = struct.unpack("=i", value[16:20])[0]
        try:
            return socket.if_indextoname(index) == self._interface
        except OSError:
            return False


async def icmp_latency_seconds(destination: IPAddress, timeout_seconds: float) -> float | None:
    """From an ICMP echo to its answer; None without one."""
    number = int.from_bytes(os.urandom(4), "big")
    if isinstance(destination, IPv4Address):
        family, protocol, request, reply = socket.AF_INET, socket.IPPROTO_ICMP, 8, 0
    else:
        family, protocol, request, reply = socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129
    body = struct.pack("!I", number) + b"warren"
    # The kernel fills in the checksum of ICMPv6 only.
    sum_of_all = checksum(struct.pack("!BBH", request, 0, 0) + body) if family == socket.AF_INET else 0
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol) as sock:
        try:
            sock.connect((str(destination), 0))
            began = time.monotonic()
            await loop.sock_sendall(sock, struct.pack("!BBH", request, 0, sum_of_all) + body)
            async with asyncio.timeout(timeout_seconds):
                while True:
                    data = await loop.sock_recv(sock, MAX_BYTES)
                    answer = data[(data[0] & 15) * 4 :] if family == socket.AF_INET and data else data
                    if answer[:1] == bytes((reply,)) and answer[4:] == body:
                        return time.monotonic() - began
        except (TimeoutError, OSError):
            return None
