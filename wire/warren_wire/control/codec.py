"""JSON as the Go side of the control protocol writes it.

Fields have Go's names, absent and null are the same thing, unknown fields are skipped, keys are strings
with a prefix. The message types are in `messages`; this module knows no message.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self, TypeVar

import msgspec

from warren_wire.errors import DecodeError
from warren_wire.keys import PublicKey

T = TypeVar("T")

# The largest map frame a stream may carry is the largest document there is.
MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Identifier = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]

ZERO_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)

_WORDS: Final = {
    "api": "API",
    "dns": "DNS",
    "derp": "DERP",
    "icmpv4": "ICMPv4",
    "id": "ID",
    "ip": "IP",
    "ips": "IPs",
    "ipn": "IPN",
    "ipv4": "IPv4",
    "ipv6": "IPv6",
    "nl": "NL",
    "os": "OS",
    "pcp": "PCP",
    "pmp": "PMP",
    "ssh": "SSH",
    "stun": "STUN",
    "tka": "TKA",
    "tls": "TLS",
    "udp": "UDP",
    "upnp": "UPnP",
    "url": "URL",
    "wireguard": "WireGuard",
}


def go_name(field: str) -> str:
    """`home_derp` is `HomeDERP` on the wire."""
    return "".join(_WORDS.get(word, word.capitalize()) for word in field.split("_"))


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=go_name):
    """Base of all messages. `None` is an absent field, an empty tuple is an empty list: the two differ."""


class OpenObject(ABC):
    """A JSON object that keeps the members it does not know, to pass them on untouched."""

    __slots__ = ()

    @classmethod
    @abstractmethod
    def from_members(cls, members: Mapping[str, Any]) -> Self: ...

    @abstractmethod
    def to_json(self) -> bytes: ...


def is_zero_time(time: datetime | None) -> bool:
    """Whether a time means "not set": Go writes the year 1 for it."""
    return time is None or time.year == 1


def known_time(time: datetime | None) -> datetime | None:
    """The time in UTC, `None` if it is not set. A time that UTC cannot express is a ValueError."""
    if time is None or time.year == 1:
        return None
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time is out of range") from error


def _decode_hook(expected: type, value: Any) -> Any:
    # A ValueError gets the place in the document from msgspec.
    if issubclass(expected, PublicKey):
        if not isinstance(value, str):
            raise ValueError("a key is a string")
        try:
            return expected.parse(value)
        except DecodeError as error:
            raise ValueError(str(error)) from error
    if issubclass(expected, OpenObject):
        if not isinstance(value, dict):
            raise ValueError("an object is expected")
        return expected.from_members(value)
    raise NotImplementedError(expected)


def _encode_hook(value: Any) -> Any:
    if isinstance(value, PublicKey):
        return str(value)
    if isinstance(value, OpenObject):
        return msgspec.Raw(value.to_json())
    raise NotImplementedError(type(value))


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_encode_hook)


_DECODERS: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


def _decoder(expected: Any) -> msgspec.json.Decoder[Any]:
    # One entry per type the program names, so it stays small.
    decoder = _DECODERS.get(expected)
    if decoder is None:
        decoder = _DECODERS[expected] = msgspec.json.Decoder(expected, dec_hook=_decode_hook)
    return decoder


def decode(expected: type[T], data: bytes | msgspec.Raw, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> T:
    """One JSON document as the type asked for; a type is any that msgspec knows."""
    if len(memoryview(data)) > max_bytes:
        raise DecodeError(f"a document of {len(memoryview(data))} bytes is not allowed")
    try:
        value: T = _decoder(expected).decode(data)
    except msgspec.ValidationError as error:
        raise DecodeError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError("not a valid JSON document") from error
    return value


def convert(value: Any, expected: type[T]) -> T:
    """A value of plain JSON types as the type asked for."""
    return msgspec.convert(value, expected, dec_hook=_decode_hook)


def encode(value: Any) -> bytes:
    return _ENCODER.encode(value)
