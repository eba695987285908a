"""The loopback socket that stands in for every relayed peer.

WireGuard sends a relayed peer's packets to that peer's 127.x.y.z; what relays bring is sent to WireGuard
from there. One socket serves all peers, in batches that the kernel cuts and joins, since a system call per
packet is what costs.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from warren_agent.paths.counters import TransportCounters

logger = logging.getLogger(__name__)

SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
IP_PKTINFO: Final = 8
SO_RCVBUFFORCE: Final = 33
SO_SNDBUFFORCE: Final = 32

BUFFER_BYTES: Final = 1 << 20
"""What does not fit is dropped here, before it has cost anything."""

MAX_BATCH_PACKETS: Final = 60
MAX_BATCH_BYTES: Final = 64000
READS_PER_WAKE: Final = 16
PORTS_TRIED: Final = 16

OnPackets = Callable[[bytes, list[memoryview]], None]


class LoopbackSocket:
    """`on_packets` gets the packed 127.x.y.z that WireGuard sent to, and views that are valid during the
    call."""

    def __init__(self, *, wireguard_port: int, counters: TransportCounters, on_packets: OnPackets) -> None:
        self._loop = asyncio.get_running_loop()
        self._wireguard_port = wireguard_port
        self._wireguard = ("127.0.0.1", wireguard_port)
        self._counters = counters
        self._on_packets = on_packets
        self._socket = _open(wireguard_port)
        self._segmenting = True
        self._buffer = bytearray(65536)
        self._loop.add_reader(self._socket.fileno(), self._readable)

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def inject(self, address: bytes, datagrams: Sequence[bytes]) -> None:
        """Give WireGuard packets as if they came from the packed loopback address of a peer."""
        for batch in batches(datagrams):
            if len(batch) == 1 or self._segmenting:
                self._send(address, batch)
            else:
                for datagram in batch:
                    self._send(address, [datagram])

    def _send(self, address: bytes, batch: list[bytes]) -> None:
        ancillary = [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4s", 0, address, bytes(4)))]
        if len(batch) > 1:
            ancillary.append((SOL_UDP, UDP_SEGMENT, struct.pack("=H", len(batch[0]))))
        try:
            self._socket.sendmsg(batch, ancillary, 0, self._wireguard)
        except BlockingIOError:
            self._counters.loopback_send_errors += len(batch)
        except OSError as error:
            self._counters.loopback_send_errors += len(batch)
            if len(batch) > 1 and self._segmenting:
                self._segmenting = False
                logger.warning(
                    "the kernel cuts no datagrams here, relayed packets cost more",
                    extra={"reason": str(error)},
                )
        else:
            self._counters.injected += len(batch)

    def _readable(self) -> None:
        view = memoryview(self._buffer)
        for _ in range(READS_PER_WAKE):
            try:
                size, ancillary, _, source = self._socket.recvmsg_into([self._buffer], 128)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # WireGuard's port was closed for a moment; the error belongs to an earlier send.
                continue
            address, segment = b"", 0
            for level, kind, value in ancillary:
                if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
                    address = value[8:12]
                elif level == SOL_UDP and kind == UDP_GRO:
                    segment = int.from_bytes(value[:2], "little")
            if source[1] != self._wireguard_port or not address:
                # Any local process can send here; only WireGuard owns that source port.
                self._counters.loopback_foreign += 1
                continue
            step = segment or size or 1
            datagrams = [view[at : min(at + step, size)] for at in range(0, size, step)]
            self._counters.loopback_received += len(datagrams)
            self._on_packets(address, datagrams)


def batches(datagrams: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Neighbours that one segmented send can carry: equal lengths, the last of a batch may be shorter."""
    batch: list[bytes] = []
    size = 0
    for datagram in datagrams:
        fits = len(batch) < MAX_BATCH_PACKETS and size + len(datagram) <= MAX_BATCH_BYTES
        if batch and not (fits and len(batch[-1]) == len(batch[0]) >= len(datagram)):
            yield batch
            batch, size = [], 0
        batch.append(datagram)
        size += len(datagram)
    if batch:
        yield batch


def _open(wireguard_port: int) -> socket.socket:
    """Bound to the port beside WireGuard's, so that a restarted agent finds its peers' endpoints still
    right."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)
        for port in loopback_ports(wireguard_port):
            try:
                sock.bind(("0.0.0.0", port))  # noqa: S104 - bound to lo above
            except OSError:
                continue
            return sock
        raise OSError(f"no free UDP port beside {wireguard_port} on the loopback interface")
    except OSError:
        sock.close()
        raise


def loopback_ports(wireguard_port: int) -> list[int]:
    """The ports to try, in order; the first is the usual one."""
    first = wireguard_port + 1 if wireguard_port < 0xFFFF - PORTS_TRIED else wireguard_port - PORTS_TRIED - 1
    return list(range(first, first + PORTS_TRIED))
