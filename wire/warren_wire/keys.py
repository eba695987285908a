"""Typed 32-byte keys and their text forms.

Two keys of different kinds are never equal. A private key never shows itself: only `to_text` writes it out.
"""

from base64 import b64encode
from typing import ClassVar, Final, Self

from warren_wire.crypto import KEY_BYTES, clamp, x25519_public
from warren_wire.errors import DecodeError

_HEX_DIGITS: Final = frozenset("0123456789abcdefABCDEF")


def _parse(kind: str, prefix: str, text: str) -> bytes:
    digits = text[len(prefix) :]
    # bytes.fromhex alone would accept white space between the digits.
    if not text.startswith(prefix) or len(digits) != 2 * KEY_BYTES or not _HEX_DIGITS.issuperset(digits):
        raise DecodeError(f"not a {kind} key: {prefix} and 64 hex digits are expected")
    return bytes.fromhex(digits)


class PublicKey:
    """What the public keys share; use the typed ones below."""

    __slots__ = ("_raw", "_text")
    kind: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise DecodeError(f"a {self.kind} key has {KEY_BYTES} bytes, not {len(raw)}")
        self._raw = bytes(raw)
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(_parse(cls.kind, cls.prefix, text))

    @classmethod
    def zero(cls) -> Self:
        """The key that stands for "none" where the protocol has no other word for it."""
        return cls(bytes(KEY_BYTES))

    @property
    def raw(self) -> bytes:
        return self._raw

    @property
    def is_zero(self) -> bool:
        return not any(self._raw)

    def short(self) -> str:
        """The form for logs and tables, e.g. `[aBcD5]`."""
        return f"[{b64encode(self._raw)[:5].decode()}]"

    def __str__(self) -> str:
        if self._text is None:
            self._text = self.prefix + self._raw.hex()
        return self._text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.short()})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._raw == self._raw

    def __lt__(self, other: Self) -> bool:
        return self._raw < other._raw

    def __hash__(self) -> int:
        return hash(self._raw)


class MachinePublic(PublicKey):
    """Noise static key of a machine; survives logout. The server's key is of the same kind."""

    __slots__ = ()
    kind = "machine"
    prefix = "mkey:"


class NodePublic(PublicKey):
    """WireGuard key of a node; identifies one login and rotates."""

    __slots__ = ()
    kind = "node"
    prefix = "nodekey:"


class DiscoPublic(PublicKey):
    """Key of path discovery; new whenever the program starts."""

    __slots__ = ()
    kind = "disco"
    prefix = "discokey:"


class ChallengePublic(PublicKey):
    """Sent by the server in the early payload, fresh per connection."""

    __slots__ = ()
    kind = "challenge"
    prefix = "chalpub:"


class _PrivateKey:
    __slots__ = ("_raw",)
    prefix: ClassVar[str] = "privkey:"

    def __init__(self, raw: bytes) -> None:
        self._raw = clamp(raw)

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Makes the key of 32 random bytes; the caller owns the source of randomness."""
        return cls(seed)

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(_parse("private", cls.prefix, text))

    def to_text(self) -> str:
        """The secret itself, for the file that keeps it."""
        return self.prefix + self._raw.hex()

    @property
    def raw(self) -> bytes:
        return self._raw

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._raw == self._raw

    def __hash__(self) -> int:
        return hash(self._raw)


class MachinePrivate(_PrivateKey):
    __slots__ = ("_public",)

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._public = MachinePublic(x25519_public(self._raw))

    @property
    def public(self) -> MachinePublic:
        return self._public


class NodePrivate(_PrivateKey):
    __slots__ = ("_public",)

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._public = NodePublic(x25519_public(self._raw))

    @property
    def public(self) -> NodePublic:
        return self._public


class DiscoPrivate(_PrivateKey):
    __slots__ = ("_public",)

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._public = DiscoPublic(x25519_public(self._raw))

    @property
    def public(self) -> DiscoPublic:
        return self._public


class ChallengePrivate(_PrivateKey):
    __slots__ = ("_public",)

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._public = ChallengePublic(x25519_public(self._raw))

    @property
    def public(self) -> ChallengePublic:
        return self._public
