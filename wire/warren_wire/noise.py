"""The Noise IK handshake of the control channel: `Noise_IK_25519_ChaChaPoly_BLAKE2s`.

The initiator knows the server's static key beforehand and tells its own, encrypted. Two things differ from a
plain Noise stack: the protocol version stands in clear before the initiation and in the prologue, and the
records after the handshake (see `control.records`) count their nonces big-endian.
"""

from dataclasses import dataclass
from typing import Final

from warren_wire.crypto import (
    AEAD_NONCE_BYTES,
    AEAD_TAG_BYTES,
    KEY_BYTES,
    Aead,
    blake2s,
    clamp,
    hkdf2_blake2s,
    x25519,
    x25519_public,
)
from warren_wire.errors import AuthenticationError, DecodeError
from warren_wire.keys import MachinePrivate, MachinePublic

PROTOCOL_NAME: Final = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
PROLOGUE: Final = b"Tailscale Control Protocol v"

TYPE_INITIATION: Final = 1
TYPE_RESPONSE: Final = 2
TYPE_ERROR: Final = 3
TYPE_RECORD: Final = 4

HEADER_BYTES: Final = 3
INITIATION_BYTES: Final = 101
RESPONSE_BYTES: Final = 51

_INITIATION_HEADER_BYTES: Final = 5
_ENCRYPTED_KEY_BYTES: Final = KEY_BYTES + AEAD_TAG_BYTES
# Every handshake key seals one message only.
_ZERO_NONCE: Final = bytes(AEAD_NONCE_BYTES)


def header(kind: int, length: int) -> bytes:
    return kind.to_bytes(1, "big") + length.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Established:
    """What both sides hold after the handshake."""

    send_key: bytes
    receive_key: bytes
    handshake_hash: bytes

    def __repr__(self) -> str:
        return "Established(...)"


class _Symmetric:
    """`h` and `ck` of the Noise specification."""

    __slots__ = ("_chaining_key", "hash")

    def __init__(self, version: int, server: bytes) -> None:
        # The name is longer than a hash, hence hashed and not padded.
        self.hash = blake2s(PROTOCOL_NAME)
        self._chaining_key = self.hash
        self.mix_hash(PROLOGUE + str(version).encode())
        self.mix_hash(server)

    def mix_hash(self, data: bytes) -> None:
        self.hash = blake2s(self.hash, data)

    def mix_dh(self, private: bytes, public: bytes) -> bytes:
        self._chaining_key, key = hkdf2_blake2s(self._chaining_key, x25519(private, public))
        return key

    def encrypt_and_hash(self, key: bytes, plaintext: bytes) -> bytes:
        ciphertext = Aead(key).seal(_ZERO_NONCE, plaintext, self.hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, key: bytes, ciphertext: bytes) -> bytes:
        plaintext = Aead(key).open(_ZERO_NONCE, ciphertext, self.hash)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        return hkdf2_blake2s(self._chaining_key, b"")


class Initiator:
    """The client's side: `message` goes out, `read_response` ends the handshake."""

    def __init__(
        self, *, machine: MachinePrivate, server: MachinePublic, ephemeral_seed: bytes, version: int
    ) -> None:
        if not 0 < version <= 0xFFFF:
            raise ValueError("the protocol version has two bytes")
        self._machine = machine
        self._ephemeral = clamp(ephemeral_seed)
        self._state = state = _Symmetric(version, server.raw)
        ephemeral = x25519_public(self._ephemeral)
        state.mix_hash(ephemeral)
        key = state.mix_dh(self._ephemeral, server.raw)
        sealed_machine = state.encrypt_and_hash(key, machine.public.raw)
        key = state.mix_dh(machine.raw, server.raw)
        tag = state.encrypt_and_hash(key, b"")
        payload = ephemeral + sealed_machine + tag
        self.message = version.to_bytes(2, "big") + header(TYPE_INITIATION, len(payload)) + payload

    def read_response(self, message: bytes) -> Established:
        if len(message) != RESPONSE_BYTES or message[:HEADER_BYTES] != header(
            TYPE_RESPONSE, RESPONSE_BYTES - HEADER_BYTES
        ):
            raise DecodeError("not a handshake response")
        state = self._state
        ephemeral = message[HEADER_BYTES : HEADER_BYTES + KEY_BYTES]
        state.mix_hash(ephemeral)
        state.mix_dh(self._ephemeral, ephemeral)
        key = state.mix_dh(self._machine.raw, ephemeral)
        _expect_empty(state.decrypt_and_hash(key, message[HEADER_BYTES + KEY_BYTES :]))
        client_key, server_key = state.split()
        return Established(client_key, server_key, state.hash)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server's side of a finished handshake. It proves possession of a machine key and nothing else."""

    machine: MachinePublic
    version: int
    message: bytes
    established: Established


def accept(*, server: MachinePrivate, initiation: bytes, ephemeral_seed: bytes) -> Accepted:
    """Answers an initiation; `message` of the result goes back to the client."""
    if len(initiation) != INITIATION_BYTES or initiation[2:_INITIATION_HEADER_BYTES] != header(
        TYPE_INITIATION, INITIATION_BYTES - _INITIATION_HEADER_BYTES
    ):
        raise DecodeError("not a handshake initiation")
    version = int.from_bytes(initiation[:2], "big")
    client_ephemeral = initiation[_INITIATION_HEADER_BYTES : _INITIATION_HEADER_BYTES + KEY_BYTES]
    rest = initiation[_INITIATION_HEADER_BYTES + KEY_BYTES :]

    state = _Symmetric(version, server.public.raw)
    state.mix_hash(client_ephemeral)
    key = state.mix_dh(server.raw, client_ephemeral)
    machine = MachinePublic(state.decrypt_and_hash(key, rest[:_ENCRYPTED_KEY_BYTES]))
    key = state.mix_dh(server.raw, machine.raw)
    _expect_empty(state.decrypt_and_hash(key, rest[_ENCRYPTED_KEY_BYTES:]))

    private = clamp(ephemeral_seed)
    ephemeral = x25519_public(private)
    state.mix_hash(ephemeral)
    state.mix_dh(private, client_ephemeral)
    key = state.mix_dh(private, machine.raw)
    payload = ephemeral + state.encrypt_and_hash(key, b"")
    client_key, server_key = state.split()
    return Accepted(
        machine=machine,
        version=version,
        message=header(TYPE_RESPONSE, len(payload)) + payload,
        established=Established(server_key, client_key, state.hash),
    )


def error_message(text: str) -> bytes:
    """What a server sends in place of the response. Nothing authenticates it: a hint for people."""
    payload = text.encode()[:0xFFFF]
    return header(TYPE_ERROR, len(payload)) + payload


def _expect_empty(payload: bytes) -> None:
    if payload:
        raise AuthenticationError("the handshake carries a payload where none is allowed")
