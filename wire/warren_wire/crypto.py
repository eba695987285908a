"""The primitives of every protocol here, with one kind of failure.

Curve25519 and boxes come from libsodium, ChaCha20-Poly1305 from OpenSSL. Keys are raw 32 bytes; the typed
keys live in `keys`. Nothing here makes randomness: nonces and seeds are arguments.
"""

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl import bindings
from nacl.exceptions import CryptoError

from warren_wire.errors import AuthenticationError

KEY_BYTES: Final = 32
BOX_NONCE_BYTES: Final = 24
BOX_OVERHEAD_BYTES: Final = 16
AEAD_NONCE_BYTES: Final = 12
AEAD_TAG_BYTES: Final = 16


def clamp(seed: bytes) -> bytes:
    """The scalar that X25519 uses for these 32 bytes."""
    if len(seed) != KEY_BYTES:
        raise ValueError("a private key has 32 bytes")
    scalar = bytearray(seed)
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return bytes(scalar)


def x25519_public(private: bytes) -> bytes:
    return bindings.crypto_scalarmult_base(private)


def x25519(private: bytes, public: bytes) -> bytes:
    """The shared secret; a low-order point, which gives all zeros, is refused."""
    try:
        shared = bindings.crypto_scalarmult(private, public)
    except (CryptoError, RuntimeError) as error:
        raise AuthenticationError("the key exchange gave no secret") from error
    if not any(shared):
        raise AuthenticationError("the key exchange gave no secret")
    return shared


class SharedBox:
    """A NaCl box between two fixed keys; the Curve25519 step is done once."""

    __slots__ = ("_key",)

    def __init__(self, private: bytes, public: bytes) -> None:
        try:
            self._key = bindings.crypto_box_beforenm(public, private)
        except (CryptoError, RuntimeError) as error:
            raise AuthenticationError("the key exchange gave no secret") from error

    def seal(self, nonce: bytes, plaintext: bytes) -> bytes:
        return bindings.crypto_box_afternm(plaintext, nonce, self._key)

    def open(self, nonce: bytes, ciphertext: bytes) -> bytes:
        # libsodium's wrapper takes shorter input for a valid box of nothing.
        if len(ciphertext) < BOX_OVERHEAD_BYTES:
            raise AuthenticationError("the box is shorter than its tag")
        try:
            return bindings.crypto_box_open_afternm(ciphertext, nonce, self._key)
        except (CryptoError, ValueError) as error:
            raise AuthenticationError("the box does not open") from error

    def __repr__(self) -> str:
        return "SharedBox(...)"


def box_seal(private: bytes, public: bytes, nonce: bytes, plaintext: bytes) -> bytes:
    return SharedBox(private, public).seal(nonce, plaintext)


def box_open(private: bytes, public: bytes, nonce: bytes, ciphertext: bytes) -> bytes:
    return SharedBox(private, public).open(nonce, ciphertext)


class Aead:
    """ChaCha20-Poly1305 under one key."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, nonce: bytes, plaintext: bytes | memoryview, associated: bytes | None = None) -> bytes:
        return self._cipher.encrypt(nonce, plaintext, associated)

    def open(self, nonce: bytes, ciphertext: bytes | memoryview, associated: bytes | None = None) -> bytes:
        try:
            return self._cipher.decrypt(nonce, ciphertext, associated)
        except InvalidTag as error:
            raise AuthenticationError("the tag does not verify") from error

    def __repr__(self) -> str:
        return "Aead(...)"


def chacha20poly1305_seal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes = b"") -> bytes:
    return Aead(key).seal(nonce, plaintext, associated)


def chacha20poly1305_open(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes = b"") -> bytes:
    return Aead(key).open(nonce, ciphertext, associated)


def blake2s(*parts: bytes) -> bytes:
    """BLAKE2s-256 of the parts one after the other."""
    digest = hashlib.blake2s()
    for part in parts:
        digest.update(part)
    return digest.digest()


def hmac_blake2s(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "blake2s")


def hkdf2_blake2s(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """The two-output HKDF of the Noise specification."""
    pseudo_random_key = hmac_blake2s(chaining_key, material)
    first = hmac_blake2s(pseudo_random_key, b"\x01")
    second = hmac_blake2s(pseudo_random_key, first + b"\x02")
    return first, second
