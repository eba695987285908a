"""Bytes of the kernel WireGuard module's generic netlink interface. Pure.

Written here because the usual library sets one peer a call, loses peers of dumps that are split over several
messages, and swaps IPv6 scope ids. All integers are in host order except ports, which are in network order.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from socket import AF_INET, AF_INET6
from typing import Final, Literal

from warren_agent.kernel.interfaces import PeerConfig, PeerStats
from warren_wire.addresses import AddrPort
from warren_wire.errors import DecodeError
from warren_wire.keys import NodePrivate, NodePublic

FAMILY_NAME: Final = "wireguard"
VERSION: Final = 1
GET_DEVICE: Final = 0
SET_DEVICE: Final = 1

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP: Final = 0x300
DUMP_INTERRUPTED: Final = 0x10
CONTROL_ID: Final = 0x10
GET_FAMILY: Final = 3
_FAMILY_ID: Final = 1
_FAMILY_NAME: Final = 2

_IFNAME: Final = 2
_PRIVATE_KEY: Final = 3
_LISTEN_PORT: Final = 6
_FWMARK: Final = 7
_PEERS: Final = 8

_PEER_PUBLIC_KEY: Final = 1
_PEER_FLAGS: Final = 3
_PEER_ENDPOINT: Final = 4
_PEER_LAST_HANDSHAKE: Final = 6
_PEER_RX_BYTES: Final = 7
_PEER_TX_BYTES: Final = 8
_PEER_ALLOWED_IPS: Final = 9
REMOVE_ME: Final = 1
REPLACE_ALLOWED_IPS: Final = 2
UPDATE_ONLY: Final = 4

_ALLOWED_FAMILY: Final = 1
_ALLOWED_ADDRESS: Final = 2
_ALLOWED_PREFIX: Final = 3

_ORDER: Final[Literal["little", "big"]] = sys.byteorder
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF
_HEADER: Final = struct.Struct("=IHHII")
_GENERIC: Final = struct.Struct("=BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")
# An attribute's length has 16 bits and the peers are one attribute; this leaves room for what surrounds them.
MAX_PEERS_BYTES: Final = 32 * 1024
ALLOWED_IPS_PER_BLOCK: Final = 256
CACHED: Final = 16384
"""Devices are read each second, and what they say about addresses is nearly always what they said before."""


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message; `payload` follows the header."""

    type: int
    sequence: int
    payload: bytes
    flags: int = 0


def attribute(kind: int, payload: bytes) -> bytes:
    padding = -len(payload) % 4
    return _ATTRIBUTE.pack(len(payload) + _ATTRIBUTE.size, kind) + payload + bytes(padding)


def nested(kind: int, parts: Iterable[bytes]) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(data):
        if len(data) - offset < _ATTRIBUTE.size:
            raise DecodeError("an attribute is cut off")
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            raise DecodeError("an attribute has a wrong length")
        yield kind & _TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def messages(data: bytes) -> Iterator[Message]:
    offset = 0
    while offset < len(data):
        if len(data) - offset < _HEADER.size:
            raise DecodeError("a message is cut off")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            raise DecodeError("a message has a wrong length")
        yield Message(kind, sequence, data[offset + _HEADER.size : offset + length], flags)
        offset += (length + 3) & ~3


def error_code(payload: bytes) -> int:
    """The errno of an error or done message, 0 for success."""
    if len(payload) < 4:
        raise DecodeError("an error message is cut off")
    return -int.from_bytes(payload[:4], _ORDER, signed=True)


def generic(command: int, parts: Iterable[bytes], version: int = VERSION) -> bytes:
    return _GENERIC.pack(command, version, 0) + b"".join(parts)


def generic_attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    if len(payload) < _GENERIC.size:
        raise DecodeError("a generic message is cut off")
    return attributes(payload[_GENERIC.size :])


def family_request(sequence: int, name: str = FAMILY_NAME) -> bytes:
    payload = generic(GET_FAMILY, [attribute(_FAMILY_NAME, name.encode() + b"\0")])
    return message(CONTROL_ID, REQUEST | ACK, sequence, payload)


def family_id(payload: bytes) -> int:
    for kind, value in generic_attributes(payload):
        if kind == _FAMILY_ID:
            return _integer(value, 2)
    raise DecodeError("a family without id")


def _integer(data: bytes, size: int) -> int:
    if len(data) != size:
        raise DecodeError(f"a number has {len(data)} bytes instead of {size}")
    return int.from_bytes(data, _ORDER)


def encode_sockaddr(endpoint: AddrPort) -> bytes:
    port = endpoint.port.to_bytes(2, "big")
    if endpoint.ip.version == 4:
        return struct.pack("=H", AF_INET) + port + endpoint.ip.packed + bytes(8)
    return struct.pack("=H", AF_INET6) + port + bytes(4) + endpoint.ip.packed + bytes(4)


@lru_cache(CACHED)
def decode_sockaddr(data: bytes) -> AddrPort | None:
    """None for a link-local address, which is no endpoint of ours without its zone."""
    if len(data) < 8:
        raise DecodeError("an endpoint is cut off")
    family, port = _integer(data[:2], 2), int.from_bytes(data[2:4], "big")
    if family == AF_INET:
        return AddrPort(IPv4Address(data[4:8]), port)
    if family == AF_INET6 and len(data) >= 24:
        address = IPv6Address(data[8:24])
        return None if address.is_link_local else AddrPort(address, port)
    raise DecodeError("an endpoint of an unknown family")


def _allowed_ip(network: IPv4Network | IPv6Network) -> bytes:
    family = AF_INET if network.version == 4 else AF_INET6
    return nested(
        0,
        [
            attribute(_ALLOWED_FAMILY, struct.pack("=H", family)),
            attribute(_ALLOWED_ADDRESS, network.network_address.packed),
            attribute(_ALLOWED_PREFIX, bytes([network.prefixlen])),
        ],
    )


def _decode_allowed_ip(data: bytes) -> IPv4Network | IPv6Network:
    values = dict(attributes(data))
    try:
        address, prefix = values[_ALLOWED_ADDRESS], values[_ALLOWED_PREFIX]
    except KeyError as error:
        raise DecodeError("an allowed address is incomplete") from error
    if len(address) not in {4, 16} or len(prefix) != 1:
        raise DecodeError("an allowed address has a wrong size")
    packed = IPv4Address(address) if len(address) == 4 else IPv6Address(address)
    try:
        return ip_network(f"{packed}/{prefix[0]}")
    except ValueError as error:
        raise DecodeError("an allowed address is not a prefix") from error


@lru_cache(CACHED)
def _decode_allowed_ips(data: bytes) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(_decode_allowed_ip(allowed) for _, allowed in attributes(data))


def peer_blocks(peer: PeerConfig) -> list[bytes]:
    """One peer, in several blocks if it has many allowed addresses; only the first replaces the old ones."""
    chunks = [
        peer.allowed_ips[start : start + ALLOWED_IPS_PER_BLOCK]
        for start in range(0, len(peer.allowed_ips), ALLOWED_IPS_PER_BLOCK)
    ] or [()]
    blocks = []
    for number, chunk in enumerate(chunks):
        flags = REPLACE_ALLOWED_IPS if number == 0 else UPDATE_ONLY
        parts = [attribute(_PEER_PUBLIC_KEY, peer.key.raw)]
        if peer.endpoint is None:
            flags |= UPDATE_ONLY
        elif number == 0:
            parts.append(attribute(_PEER_ENDPOINT, encode_sockaddr(peer.endpoint)))
        parts.append(attribute(_PEER_FLAGS, struct.pack("=I", flags)))
        parts.append(nested(_PEER_ALLOWED_IPS, [_allowed_ip(network) for network in chunk]))
        blocks.append(nested(0, parts))
    return blocks


def removal_block(key: NodePublic) -> bytes:
    flags = attribute(_PEER_FLAGS, struct.pack("=I", REMOVE_ME | UPDATE_ONLY))
    return nested(0, [attribute(_PEER_PUBLIC_KEY, key.raw), flags])


def endpoint_block(key: NodePublic, endpoint: AddrPort) -> bytes:
    return nested(
        0,
        [
            attribute(_PEER_PUBLIC_KEY, key.raw),
            attribute(_PEER_FLAGS, struct.pack("=I", UPDATE_ONLY)),
            attribute(_PEER_ENDPOINT, encode_sockaddr(endpoint)),
        ],
    )


def set_peers_payloads(interface: str, blocks: Sequence[bytes]) -> list[bytes]:
    """Requests of bounded size that carry all blocks in order."""
    payloads: list[bytes] = []
    pending: list[bytes] = []
    size = 0
    for block in blocks:
        if pending and size + len(block) > MAX_PEERS_BYTES:
            payloads.append(_set_peers(interface, pending))
            pending, size = [], 0
        pending.append(block)
        size += len(block)
    if pending:
        payloads.append(_set_peers(interface, pending))
    return payloads


def _name(interface: str) -> bytes:
    return attribute(_IFNAME, interface.encode() + b"\0")


def _set_peers(interface: str, blocks: Sequence[bytes]) -> bytes:
    return generic(SET_DEVICE, [_name(interface), nested(_PEERS, blocks)])


def set_device_payload(
    interface: str, private: NodePrivate | None, listen_port: int | None, fwmark: int | None
) -> bytes:
    parts = [_name(interface)]
    if private is not None:
        parts.append(attribute(_PRIVATE_KEY, private.raw))
    if listen_port is not None:
        parts.append(attribute(_LISTEN_PORT, struct.pack("=H", listen_port)))
    if fwmark is not None:
        parts.append(attribute(_FWMARK, struct.pack("=I", fwmark)))
    return generic(SET_DEVICE, parts)


def get_device_payload(interface: str) -> bytes:
    return generic(GET_DEVICE, [_name(interface)])


@dataclass(slots=True)
class _Peer:
    endpoint: AddrPort | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0
    last_handshake_unix_ns: int = 0
    allowed_ips: list[IPv4Network | IPv6Network] = field(default_factory=list)


@dataclass(slots=True)
class DeviceDump:
    """Collects the messages of one dump. A peer with many allowed addresses comes in several messages."""

    private: NodePrivate | None = None
    listen_port: int = 0
    fwmark: int = 0
    _peers: dict[NodePublic, _Peer] = field(default_factory=dict)

    def feed(self, payload: bytes) -> None:
        for kind, value in generic_attributes(payload):
            if kind == _PRIVATE_KEY:
                self.private = NodePrivate(value) if len(value) == 32 and any(value) else None
            elif kind == _LISTEN_PORT:
                self.listen_port = _integer(value, 2)
            elif kind == _FWMARK:
                self.fwmark = _integer(value, 4)
            elif kind == _PEERS:
                for _, peer in attributes(value):
                    self._feed_peer(dict(attributes(peer)))

    def _feed_peer(self, values: dict[int, bytes]) -> None:
        if _PEER_PUBLIC_KEY not in values:
            raise DecodeError("a peer without key")
        peer = self._peers.setdefault(NodePublic(values[_PEER_PUBLIC_KEY]), _Peer())
        if _PEER_ENDPOINT in values:
            peer.endpoint = decode_sockaddr(values[_PEER_ENDPOINT])
        if _PEER_RX_BYTES in values:
            peer.rx_bytes = _integer(values[_PEER_RX_BYTES], 8)
        if _PEER_TX_BYTES in values:
            peer.tx_bytes = _integer(values[_PEER_TX_BYTES], 8)
        if _PEER_LAST_HANDSHAKE in values:
            time = values[_PEER_LAST_HANDSHAKE]
            if len(time) != 16:
                raise DecodeError("a handshake time has a wrong size")
            peer.last_handshake_unix_ns = _integer(time[:8], 8) * 1_000_000_000 + _integer(time[8:], 8)
        peer.allowed_ips.extend(_decode_allowed_ips(values.get(_PEER_ALLOWED_IPS, b"")))

    def peers(self) -> dict[NodePublic, PeerStats]:
        return {
            key: PeerStats(
                endpoint=peer.endpoint,
                rx_bytes=peer.rx_bytes,
                tx_bytes=peer.tx_bytes,
                last_handshake_unix_ns=peer.last_handshake_unix_ns,
                allowed_ips=tuple(peer.allowed_ips),
            )
            for key, peer in self._peers.items()
        }
