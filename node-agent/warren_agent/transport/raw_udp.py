"""Disco and STUN on the port that WireGuard owns, by raw sockets beside it.

A datagram sent here has the same addresses and ports as WireGuard's own, so it opens the same NAT mapping
and the same firewall state. Needs CAP_NET_RAW, and CAP_NET_ADMIN for the mark.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from warren_agent.paths.actions import IPAddress
from warren_agent.paths.counters import TransportCounters
from warren_agent.transport import bpf, packets
from warren_agent.transport.source_addresses import SourceAddresses
from warren_wire.addresses import AddrPort

logger = logging.getLogger(__name__)

OnMessage = Callable[[bytes, AddrPort, IPAddress], None]

SO_RCVBUFFORCE: Final = 33
IPV6_CHECKSUM: Final = 7
IPV6_RECVPKTINFO: Final = 49
IPV6_PKTINFO: Final = 50
IP_PKTINFO: Final = 8

RECEIVE_BUFFER_BYTES: Final = 1 << 20
MAX_PACKET_BYTES: Final = 65535
READS_PER_WAKE: Final = 64
"""Then other work gets its turn."""


class RawUdp:
    """One raw socket per family, with the filter attached. `on_message` gets each disco or STUN message by
    itself."""

    def __init__(
        self, *, port: int, mark: int, ipv6: bool, counters: TransportCounters, on_message: OnMessage
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._port = port
        self._counters = counters
        self._on_message = on_message
        self._sources = SourceAddresses(mark)
        self._v4 = _open(socket.AF_INET, port, mark)
        self._v6: socket.socket | None = None
        if ipv6:
            with contextlib.suppress(OSError):
                self._v6 = _open(socket.AF_INET6, port, mark)
        self._loop.add_reader(self._v4.fileno(), self._readable_v4)
        if self._v6 is not None:
            self._loop.add_reader(self._v6.fileno(), self._readable_v6)

    @property
    def has_ipv6(self) -> bool:
        return self._v6 is not None

    def close(self) -> None:
        for sock in (self._v4, self._v6):
            if sock is not None:
                self._loop.remove_reader(sock.fileno())
                sock.close()

    def addresses_changed(self) -> None:
        """The host's addresses changed; look up source addresses anew."""
        self._sources.forget()

    def send(self, data: bytes, destination: AddrPort, source: IPAddress | None) -> bool:
        """Send from WireGuard's port; from `source` if given. False, and counted, if the network refuses."""
        try:
            if isinstance(destination.ip, IPv4Address):
                self._send_v4(data, destination, source)
            else:
                self._send_v6(data, destination, source)
        except OSError:
            self._counters.raw_send_errors += 1
            return False
        self._counters.raw_sent += 1
        return True

    def _send_v4(self, data: bytes, destination: AddrPort, source: IPAddress | None) -> None:
        own = source or self._sources.towards(destination, self._loop.time())
        datagram = packets.udp_datagram(AddrPort(own, self._port), destination, data)
        info = struct.pack("=i4s4s", 0, own.packed, bytes(4))
        self._v4.sendmsg([datagram], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, (str(destination.ip), 0))

    def _send_v6(self, data: bytes, destination: AddrPort, source: IPAddress | None) -> None:
        if self._v6 is None:
            raise OSError("no IPv6 here")
        header = packets.udp_header_only(self._port, destination.port, len(data))
        ancillary = []
        if source is not None:
            ancillary.append((socket.IPPROTO_IPV6, IPV6_PKTINFO, source.packed + struct.pack("=i", 0)))
        self._v6.sendmsg([header, data], ancillary, 0, (str(destination.ip), 0))

    def _readable_v4(self) -> None:
        for _ in range(READS_PER_WAKE):
            try:
                data = self._v4.recv(MAX_PACKET_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An ICMP error for something sent earlier; the next read is about the next packet.
                continue
            received = packets.parse_ipv4(data)
            if received is None:
                self._counters.raw_malformed += 1
            else:
                self._deliver(received)

    def _readable_v6(self) -> None:
        assert self._v6 is not None
        for _ in range(READS_PER_WAKE):
            try:
                data, ancillary, _, address = self._v6.recvmsg(MAX_PACKET_BYTES, 64)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue
            local = [
                d for level, kind, d in ancillary if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO
            ]
            if len(data) < packets.UDP_HEADER_BYTES or not local:
                self._counters.raw_malformed += 1
                continue
            source = AddrPort(IPv6Address(address[0].partition("%")[0]), int.from_bytes(data[:2], "big"))
            payload = data[packets.UDP_HEADER_BYTES :]
            self._deliver(packets.Received(source, IPv6Address(local[0][:16]), payload))

    def _deliver(self, received: packets.Received) -> None:
        messages = packets.split_merged(received.payload)
        if not messages:
            self._counters.raw_malformed += 1
        for message in messages:
            self._counters.raw_received += 1
            self._on_message(message, received.source, received.local)


def _open(family: socket.AddressFamily, port: int, mark: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)
    try:
        bpf.attach(sock, bpf.control_filter(port, ipv6=family == socket.AF_INET6))
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, 6)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
    except OSError:
        sock.close()
        raise
    return sock
