"""The part of a home router that gives port mappings: NAT-PMP and PCP, as bytes in and bytes out."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

PUBLIC = IPv4Address("203.0.113.21")
LIFETIME_SECONDS = 7200
PMP_PORT, PCP_PORT = 40001, 40002


def _nothing(internal_port: int, external_port: int) -> None:
    pass


@dataclass
class HomeRouter:
    """`started` is when its clock began; a `result` other than 0 refuses everything."""

    pmp: bool = True
    pcp: bool = True
    result: int = 0
    lifetime: int = LIFETIME_SECONDS
    started: float = -1000.0
    public: IPv4Address = PUBLIC
    on_map: Callable[[int, int], None] = _nothing
    asked: list[bytes] = field(default_factory=list)

    def answer(self, data: bytes, now: float) -> bytes | None:
        self.asked.append(data)
        epoch = int(now - self.started)
        if data[0] == 0:
            return self._pmp(data, epoch)
        if not self.pcp:
            return struct.pack("!BBHI", 0, 0x80 | data[1], 1, epoch) if self.pmp else None
        lifetime = min(int.from_bytes(data[4:8], "big"), self.lifetime)
        self._mapped(int.from_bytes(data[40:42], "big"), PCP_PORT, lifetime)
        header = struct.pack("!BBBBII12x", 2, 0x81, 0, self.result, lifetime, epoch)
        address = bytes(10) + b"\xff\xff" + self.public.packed
        return header + data[24:42] + struct.pack("!H", PCP_PORT) + address

    def _pmp(self, data: bytes, epoch: int) -> bytes | None:
        if not self.pmp:
            return struct.pack("!BBBBII12x", 2, 0x80 | data[1], 0, 1, 0, epoch) if self.pcp else None
        if data[1] == 0:
            return struct.pack("!BBHI4s", 0, 0x80, self.result, epoch, self.public.packed)
        _, _, _, internal, _, lifetime = struct.unpack("!BBHHHI", data)
        granted = min(lifetime, self.lifetime)
        self._mapped(internal, PMP_PORT, granted)
        return struct.pack("!BBHIHHI", 0, 0x81, self.result, epoch, internal, PMP_PORT, granted)

    def _mapped(self, internal_port: int, external_port: int, lifetime: int) -> None:
        if self.result == 0 and lifetime:
            self.on_map(internal_port, external_port)
