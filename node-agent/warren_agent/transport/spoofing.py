"""Relayed packets given to WireGuard as if they came directly from a peer's address.

WireGuard follows every authenticated packet to its source. A stray relayed packet of a peer that we reach
directly must therefore claim the direct address, or the peer's traffic would turn to the relay.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from warren_agent.paths.counters import TransportCounters
from warren_agent.transport import packets
from warren_agent.transport.source_addresses import SourceAddresses
from warren_wire.addresses import AddrPort

_LOOPBACK: Final = IPv4Address("127.0.0.1")


class SpoofingSocket:
    """One raw socket per family; `mark` is the mark of WireGuard's own packets."""

    def __init__(self, *, wireguard_port: int, mark: int, counters: TransportCounters) -> None:
        self._port = wireguard_port
        self._counters = counters
        self._sources = SourceAddresses(mark)
        self._v4 = _open(socket.AF_INET)
        self._v6: socket.socket | None = None
        # A kernel may be built or started without IPv6.
        with contextlib.suppress(OSError):
            self._v6 = _open(socket.AF_INET6)

    def close(self) -> None:
        for sock in (self._v4, self._v6):
            if sock is not None:
                sock.close()

    def addresses_changed(self) -> None:
        """The host's addresses changed; look up source addresses anew."""
        self._sources.forget()

    def inject(self, source: AddrPort, datagrams: Sequence[bytes]) -> None:
        """What cannot be delivered is dropped and counted."""
        for datagram in datagrams:
            try:
                if isinstance(source.ip, IPv4Address):
                    self._inject_v4(source, datagram)
                else:
                    self._inject_v6(source, datagram)
            except OSError:
                self._counters.loopback_send_errors += 1
            else:
                self._counters.injected_spoofed += 1

    def _inject_v4(self, source: AddrPort, datagram: bytes) -> None:
        packet = packets.ipv4_packet(source, AddrPort(_LOOPBACK, self._port), datagram)
        self._v4.sendto(packet, (str(_LOOPBACK), 0))

    def _inject_v6(self, source: AddrPort, datagram: bytes) -> None:
        """To the host's own address on the way to the peer, never to ::1.

        WireGuard answers from the address that a packet came to, and unlike with IPv4 it does not notice that
        ::1 belongs to another interface: its packets would leave the host with that source.
        """
        if self._v6 is None:
            raise OSError("no IPv6 here")
        own = self._sources.towards(source, time.monotonic())
        assert isinstance(own, IPv6Address)
        if own.is_loopback:
            raise OSError("the address of the peer is of this host")
        packet = packets.ipv6_packet(source, AddrPort(own, self._port), datagram)
        self._v6.sendto(packet, (str(own), 0))


def _open(family: socket.AddressFamily) -> socket.socket:
    """Packets are written with their IP header, which IPPROTO_RAW means in both families."""
    return socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
