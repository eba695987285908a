"""WireGuard in user space, through its cross-platform text protocol on a Unix socket.

The codec at the top is pure; `UapiWireGuard` is its shell. Never sends `replace_peers`, which would end every
session.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warren_agent.kernel.device import DeviceState
from warren_agent.kernel.interfaces import PeerConfig, PeerStats, WireGuardError
from warren_wire.addresses import AddrPort, parse_prefix
from warren_wire.errors import DecodeError
from warren_wire.keys import NodePrivate, NodePublic

MAX_LINE_BYTES: Final = 64 * 1024
# 100 000 peers with some routes each; what is beyond that is not a WireGuard device.
MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024
PEERS_PER_REQUEST: Final = 500
TIMEOUT_SECONDS: Final = 10.0
GET_REQUEST: Final = b"get=1\n\n"


@dataclass(slots=True)
class _PeerFields:
    key: NodePublic
    endpoint: AddrPort | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0
    handshake_seconds: int = 0
    handshake_nanoseconds: int = 0
    allowed_ips: list[str] | None = None

    def finish(self) -> PeerStats:
        return PeerStats(
            endpoint=self.endpoint,
            rx_bytes=self.rx_bytes,
            tx_bytes=self.tx_bytes,
            last_handshake_unix_ns=self.handshake_seconds * 1_000_000_000 + self.handshake_nanoseconds,
            allowed_ips=tuple(parse_prefix(text) for text in self.allowed_ips or ()),
        )


def _number(key: str, text: str, limit: int = 1 << 64) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20) or int(text) >= limit:
        raise DecodeError(f"{key} is not a number in range")
    return int(text)


def _endpoint(text: str) -> AddrPort | None:
    """Link-local endpoints carry a zone, which is no endpoint of ours."""
    return None if "%" in text else AddrPort.parse(text)


def _peer_field(peer: _PeerFields, key: str, value: str) -> None:
    match key:
        case "endpoint":
            peer.endpoint = _endpoint(value)
        case "rx_bytes":
            peer.rx_bytes = _number(key, value)
        case "tx_bytes":
            peer.tx_bytes = _number(key, value)
        case "last_handshake_time_sec":
            peer.handshake_seconds = _number(key, value, 1 << 63)
        case "last_handshake_time_nsec":
            peer.handshake_nanoseconds = _number(key, value, 1_000_000_000)
        case "allowed_ip":
            peer.allowed_ips = [*(peer.allowed_ips or ()), value]
        case _:
            pass  # Newer programs may say more.


def parse_device(lines: Sequence[str]) -> DeviceState:
    """The lines of an answer to `get`, the final errno left out. Raises `DecodeError`."""
    private: NodePrivate | None = None
    numbers = {"listen_port": 0, "fwmark": 0}
    peers: list[_PeerFields] = []
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals:
            raise DecodeError("a line without '='")
        if key == "public_key":
            peers.append(_PeerFields(NodePublic.parse(f"{NodePublic.prefix}{value}")))
        elif peers:
            _peer_field(peers[-1], key, value)
        elif key == "private_key":
            private = NodePrivate.parse(f"{NodePrivate.prefix}{value}") if value.strip("0") else None
        elif key in numbers:
            numbers[key] = _number(key, value, 1 << (16 if key == "listen_port" else 32))
    return DeviceState(
        private, numbers["listen_port"], numbers["fwmark"], {peer.key: peer.finish() for peer in peers}
    )


def encode_configuration(private: NodePrivate | None, listen_port: int | None, fwmark: int | None) -> str:
    """Only what is given is set: writing a port or a mark again would forget every peer's source address."""
    lines = ["set=1"]
    if private is not None:
        lines.append(f"private_key={private.raw.hex()}")
    if listen_port is not None:
        lines.append(f"listen_port={listen_port}")
    if fwmark is not None:
        lines.append(f"fwmark={fwmark}")
    return "\n".join(lines) + "\n\n"


def _peer_lines(peer: PeerConfig) -> list[str]:
    lines = [f"public_key={peer.key.raw.hex()}"]
    if peer.endpoint is None:
        lines.append("update_only=true")
    else:
        lines.append(f"endpoint={peer.endpoint}")
    lines.append("replace_allowed_ips=true")
    return lines + [f"allowed_ip={network}" for network in peer.allowed_ips]


def encode_peers(changed: Sequence[PeerConfig], removed: Sequence[NodePublic]) -> list[str]:
    """Requests for all changes; additions first, so that an address moves from peer to peer without a gap."""
    blocks = [_peer_lines(peer) for peer in changed]
    blocks += [[f"public_key={key.raw.hex()}", "remove=true"] for key in removed]
    requests = []
    for start in range(0, len(blocks), PEERS_PER_REQUEST):
        lines = [line for block in blocks[start : start + PEERS_PER_REQUEST] for line in block]
        requests.append("\n".join(["set=1", *lines]) + "\n\n")
    return requests


def encode_endpoint(peer: NodePublic, endpoint: AddrPort) -> str:
    return f"set=1\npublic_key={peer.raw.hex()}\nupdate_only=true\nendpoint={endpoint}\n\n"


class UapiWireGuard:
    """A device behind a UAPI socket: one request after another over one connection, opened again when the
    program behind it was restarted.
    """

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def configure(self, private: NodePrivate, listen_port: int, fwmark: int) -> None:
        state = await self.device()
        request = encode_configuration(
            None if state.private == private else private,
            None if state.listen_port == listen_port else listen_port,
            None if state.fwmark == fwmark else fwmark,
        )
        await self._request(request)

    async def update(self, set: Sequence[PeerConfig], remove: Sequence[NodePublic]) -> None:  # noqa: A002
        for request in encode_peers(set, remove):
            await self._request(request)

    async def set_endpoint(self, peer: NodePublic, endpoint: AddrPort) -> None:
        await self._request(encode_endpoint(peer, endpoint))

    async def peers(self) -> Mapping[NodePublic, PeerStats]:
        return (await self.device()).peers

    async def device(self) -> DeviceState:
        lines = await self._request(GET_REQUEST.decode())
        try:
            return parse_device(lines)
        except DecodeError as error:
            raise WireGuardError(f"WireGuard's answer at {self._path} is not understood: {error}") from error

    async def close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()

    async def _request(self, text: str) -> list[str]:
        async with self._lock:
            kept = self._streams is not None
            try:
                try:
                    return await self._exchange(text)
                except (OSError, EOFError):
                    await self.close()
                    if not kept:
                        raise
                # That program has ended and its successor listens at the same place. Every request may be
                # repeated: it says how things should be.
                return await self._exchange(text)
            except (OSError, EOFError, TimeoutError) as error:
                await self.close()
                reason = getattr(error, "strerror", None) or "no answer"
                raise WireGuardError(f"no WireGuard program answers at {self._path}: {reason}") from error
            except BaseException:
                # A request that was cut off leaves its answer in the stream.
                await self.close()
                raise

    async def _exchange(self, text: str) -> list[str]:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            if self._streams is None:
                self._streams = await asyncio.open_unix_connection(str(self._path), limit=MAX_LINE_BYTES)
            reader, writer = self._streams
            writer.write(text.encode())
            await writer.drain()
            return await self._read_answer(reader)

    async def _read_answer(self, reader: asyncio.StreamReader) -> list[str]:
        lines: list[str] = []
        total = 0
        errno: int | None = None
        while True:
            try:
                raw = await reader.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:
                raise WireGuardError(f"WireGuard's answer at {self._path} has a line without end") from error
            total += len(raw)
            if total > MAX_RESPONSE_BYTES:
                raise WireGuardError(f"WireGuard's answer at {self._path} has no end")
            line = raw[:-1].decode("ascii", "replace")
            if not line:
                break
            if line.startswith("errno="):
                errno = int(line[6:]) if line[6:].lstrip("-").isdigit() else -1
            else:
                lines.append(line)
        if errno != 0:
            reason = "it does not say why" if errno is None else os.strerror(abs(errno))
            raise WireGuardError(f"WireGuard at {self._path} refused a request: {reason}")
        return lines
