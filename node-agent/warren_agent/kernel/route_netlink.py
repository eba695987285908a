"""Routes of one table over rtnetlink, thousands in few messages.

A mesh of a thousand members has two thousand routes; one request and one answer for each, and a library's
object for each attribute, would take seconds.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from warren_agent.errors import KernelError
from warren_agent.host import Network

NEWROUTE: Final = 24
DELROUTE: Final = 25
GETROUTE: Final = 26
_ERROR: Final = 2
_DONE: Final = 3

_REQUEST: Final = 0x1
_ACK: Final = 0x4
_DUMP: Final = 0x300
_CREATE_EXCLUSIVE: Final = 0x600
_DUMP_INTERRUPTED: Final = 0x10

_SOL_NETLINK: Final = 270
_STRICT_CHECK: Final = 12
"""Makes the kernel filter a dump by table instead of sending every route of the host."""

_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_TABLE: Final = 15
_PROTOCOL_STATIC: Final = 4
_UNICAST: Final = 1
_SCOPE_LINK: Final = 253
_SCOPE_NONE: Final = 255

_RECEIVE_BYTES: Final = 1 << 17
_BATCH: Final = 200
"""Requests sent before their answers are read; their acknowledgements fit the socket's buffer."""

_TIMEOUT_SECONDS: Final = 10.0
_DUMP_TRIES: Final = 5
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_HARMLESS: Final = {
    NEWROUTE: frozenset({errno.EEXIST}),
    DELROUTE: frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV}),
}


class RouteSocket:
    """A conversation with the kernel. Blocks; raises `KernelError`. Used as a context manager."""

    def __init__(self) -> None:
        self._sequence = 0
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.settimeout(_TIMEOUT_SECONDS)
        self._socket.bind((0, 0))
        # Kernels before 4.20 do not know it and send more than was asked for.
        try:
            self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
        except OSError:
            pass

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(self, *failure: object) -> None:
        self._socket.close()

    def routes(self, table: int, index: int | None) -> frozenset[Network]:
        """The destinations of a table, of one interface if its index is given."""
        try:
            return frozenset(
                network for family in _FAMILY.values() for network in self._dump(family, table, index)
            )
        except OSError as error:
            raise KernelError(f"netlink: {error.strerror or error}") from error

    def change(
        self, operation: int, table: int, index: int | None, destinations: Sequence[Network]
    ) -> dict[Network, str]:
        """Add (`NEWROUTE`) or delete (`DELROUTE`) routes; why those that failed did."""
        failures: dict[Network, str] = {}
        try:
            for start in range(0, len(destinations), _BATCH):
                self._change(operation, table, index, destinations[start : start + _BATCH], failures)
        except OSError as error:
            raise KernelError(f"netlink: {error.strerror or error}") from error
        return failures

    def _change(
        self,
        operation: int,
        table: int,
        index: int | None,
        batch: Sequence[Network],
        failures: dict[Network, str],
    ) -> None:
        flags = _REQUEST | _ACK | (_CREATE_EXCLUSIVE if operation == NEWROUTE else 0)
        waiting: dict[int, Network] = {}
        request = bytearray()
        for network in batch:
            self._sequence += 1
            waiting[self._sequence] = network
            request += _message(operation, flags, self._sequence, _route(operation, table, index, network))
        self._socket.send(request)
        while waiting:
            for kind, _, sequence, body in _messages(self._socket.recv(_RECEIVE_BYTES)):
                answered = waiting.pop(sequence, None) if kind == _ERROR else None
                if answered is None:
                    continue
                code = -struct.unpack_from("=i", body)[0]
                if code and code not in _HARMLESS[operation]:
                    failures[answered] = os.strerror(code)

    def _dump(self, family: int, table: int, index: int | None) -> list[Network]:
        for _ in range(_DUMP_TRIES):
            found = self._dump_once(family, table, index)
            if found is not None:
                return found
        raise KernelError("netlink: the routes change faster than they can be read")

    def _dump_once(self, family: int, table: int, index: int | None) -> list[Network] | None:
        """None if the table changed meanwhile."""
        self._sequence += 1
        body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0) + _attribute(
            _RTA_TABLE, struct.pack("=I", table)
        )
        self._socket.send(_message(GETROUTE, _REQUEST | _DUMP, self._sequence, body))
        found: list[Network] = []
        interrupted = False
        while True:
            for kind, flags, sequence, answer in _messages(self._socket.recv(_RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & _DUMP_INTERRUPTED)
                if kind == _DONE:
                    return None if interrupted else found
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", answer)[0]
                    # A table that does not exist yet has no routes.
                    if code in (0, errno.ENOENT):
                        return found
                    raise OSError(code, os.strerror(code))
                network = _destination(answer, table, index)
                if network is not None:
                    found.append(network)


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _route(operation: int, table: int, index: int | None, network: Network) -> bytes:
    """`struct rtmsg` with its attributes; the table's number needs one of its own above 255."""
    adding = operation == NEWROUTE
    header = struct.pack(
        "=BBBBBBBBI",
        _FAMILY[network.version],
        network.prefixlen,
        0,
        0,
        table if table < 256 else 0,
        _PROTOCOL_STATIC if adding else 0,
        _SCOPE_LINK if adding and network.version == 4 else 0 if adding else _SCOPE_NONE,
        _UNICAST if adding else 0,
        0,
    )
    attributes = _attribute(_RTA_TABLE, struct.pack("=I", table))
    attributes += _attribute(_RTA_DST, network.network_address.packed)
    if index is not None:
        attributes += _attribute(_RTA_OIF, struct.pack("=I", index))
    return header + attributes


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, sequence and body of each message of one datagram."""
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, at)
        if length < 16 or at + length > len(data):
            raise OSError(errno.EBADMSG, "a message of the kernel is cut off")
        yield kind, flags, sequence, data[at + 16 : at + length]
        at += (length + 3) & ~3


def _destination(body: bytes, table: int, index: int | None) -> Network | None:
    family, prefix, _, _, small, _, _, kind, _ = struct.unpack_from("=BBBBBBBBI", body)
    found_table, found_index, address = small, None, b""
    at = 12
    while at + 4 <= len(body):
        length, attribute = struct.unpack_from("=HH", body, at)
        if length < 4:
            break
        value = body[at + 4 : at + length]
        if attribute == _RTA_TABLE:
            (found_table,) = struct.unpack("=I", value)
        elif attribute == _RTA_OIF:
            (found_index,) = struct.unpack("=I", value)
        elif attribute == _RTA_DST:
            address = value
        at += (length + 3) & ~3
    if found_table != table or kind != _UNICAST or (index is not None and found_index != index):
        return None
    if family == socket.AF_INET:
        return IPv4Network((address or bytes(4), prefix))
    return IPv6Network((address or bytes(16), prefix))
