"""Addresses, endpoints and prefixes as the protocols write them, and the ranges of the mesh."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

from warren_wire.errors import DecodeError

CGNAT_V4: Final = IPv4Network("100.64.0.0/10")
ULA_V6: Final = IPv6Network("fd7a:115c:a1e0::/48")
MAGIC_DNS_V4: Final = IPv4Address("100.100.100.100")
MAGIC_DNS_V6: Final = IPv6Address("fd7a:115c:a1e0::53")
EXIT_ROUTES: Final = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))

# Never handed out inside the two ranges above; stock clients treat each of them specially.
RESERVED_V4: Final = (IPv4Network("100.100.100.100/32"), IPv4Network("100.115.92.0/23"))
RESERVED_V6: Final = (
    IPv6Network("fd7a:115c:a1e0::53/128"),
    IPv6Network("fd7a:115c:a1e0:b1a::/64"),
    IPv6Network("fd7a:115c:a1e0:ab12:4843:cd96:6200::/104"),
    IPv6Network("fd7a:115c:a1e0:efe3::/64"),
)

WIRE_BYTES: Final = 18


@dataclass(frozen=True, slots=True)
class AddrPort:
    """A UDP endpoint. IPv4 sorts before IPv6; zones are not addresses of the mesh and are refused."""

    ip: IPv4Address | IPv6Address
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > 0xFFFF:
            raise DecodeError("not an endpoint: ADDRESS:PORT is expected")
        address = parse_address(host[1:-1] if bracketed else host)
        if bracketed != (":" in host):
            raise DecodeError("not an endpoint: an IPv6 address stands in brackets, an IPv4 address does not")
        return cls(_unmapped(address), int(port))

    @classmethod
    def from_wire18(cls, data: bytes) -> Self:
        """16 bytes of address, IPv4 mapped into IPv6, and a big-endian port."""
        if len(data) != WIRE_BYTES:
            raise DecodeError(f"an endpoint has {WIRE_BYTES} bytes, not {len(data)}")
        return cls(_unmapped(IPv6Address(bytes(data[:16]))), int.from_bytes(data[16:], "big"))

    def to_wire18(self) -> bytes:
        packed = self.ip.packed
        mapped = packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed
        return mapped + self.port.to_bytes(2, "big")

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}" if self.ip.version == 4 else f"[{self.ip}]:{self.port}"

    def _key(self) -> tuple[int, int, int]:
        return (self.ip.version, int(self.ip), self.port)

    def __lt__(self, other: "AddrPort") -> bool:
        return self._key() < other._key()

    def __le__(self, other: "AddrPort") -> bool:
        return self._key() <= other._key()

    def __gt__(self, other: "AddrPort") -> bool:
        return self._key() > other._key()

    def __ge__(self, other: "AddrPort") -> bool:
        return self._key() >= other._key()

    def __hash__(self) -> int:
        # The standard library hashes an address through its text; this is looked up per datagram.
        return hash((int(self.ip), self.port))


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_address(text: str) -> IPv4Address | IPv6Address:
    if "%" in text:
        raise DecodeError("not an address: zones are not allowed")
    try:
        return ip_address(text)
    except ValueError as error:
        raise DecodeError("not an IP address") from error


def parse_prefix(text: str) -> IPv4Network | IPv6Network:
    """A prefix without host bits; a bare address is its own prefix."""
    if "%" in text:
        raise DecodeError("not a prefix: zones are not allowed")
    try:
        return ip_network(text)
    except ValueError as error:
        raise DecodeError("not a prefix: ADDRESS/LENGTH without host bits is expected") from error
