"""The primitives against published vectors, and their single kind of failure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire.crypto import (
    SharedBox,
    blake2s,
    box_open,
    box_seal,
    chacha20poly1305_open,
    chacha20poly1305_seal,
    hkdf2_blake2s,
    hmac_blake2s,
    x25519,
    x25519_public,
)
from warren_wire.errors import AuthenticationError

ALICE = bytes([0x77]) * 32
BOB = bytes([0x88]) * 32
NONCE = bytes(range(24))


def test_both_sides_get_the_same_secret() -> None:
    assert x25519(ALICE, x25519_public(BOB)) == x25519(BOB, x25519_public(ALICE))


def test_x25519_of_rfc_7748() -> None:
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    expected = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert x25519(scalar, point).hex() == expected


def test_a_low_order_point_gives_no_secret() -> None:
    for point in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(AuthenticationError):
            x25519(ALICE, point)
        with pytest.raises(AuthenticationError):
            SharedBox(ALICE, point)


def test_blake2s_of_rfc_7693() -> None:
    assert blake2s(b"abc").hex() == "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert blake2s(b"a", b"", b"bc") == blake2s(b"abc")


def test_hkdf_is_built_of_hmac() -> None:
    first, second = hkdf2_blake2s(b"k" * 32, b"material")
    prk = hmac_blake2s(b"k" * 32, b"material")
    assert first == hmac_blake2s(prk, b"\x01")
    assert second == hmac_blake2s(prk, first + b"\x02")


def test_chacha20poly1305_of_rfc_8439() -> None:
    key = bytes(range(0x80, 0xA0))
    nonce = bytes.fromhex("070000004041424344454647")
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    plaintext = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    sealed = chacha20poly1305_seal(key, nonce, plaintext, associated)
    assert sealed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
    assert chacha20poly1305_open(key, nonce, sealed, associated) == plaintext
    with pytest.raises(AuthenticationError):
        chacha20poly1305_open(key, nonce, sealed, b"")
    for length in range(16):
        with pytest.raises(AuthenticationError):
            chacha20poly1305_open(key, nonce, sealed[:length], associated)


@given(st.binary(max_size=200))
def test_a_box_opens_for_the_other_side_only(plaintext: bytes) -> None:
    sealed = box_seal(ALICE, x25519_public(BOB), NONCE, plaintext)
    assert box_open(BOB, x25519_public(ALICE), NONCE, sealed) == plaintext
    assert SharedBox(BOB, x25519_public(ALICE)).open(NONCE, sealed) == plaintext
    with pytest.raises(AuthenticationError):
        box_open(BOB, x25519_public(BOB), NONCE, sealed)


@given(st.binary(max_size=64))
def test_any_bytes_are_no_box(data: bytes) -> None:
    with pytest.raises(AuthenticationError):
        SharedBox(ALICE, x25519_public(BOB)).open(NONCE, data)


def test_nothing_secret_is_shown() -> None:
    assert repr(SharedBox(ALICE, x25519_public(BOB))) == "SharedBox(...)"
