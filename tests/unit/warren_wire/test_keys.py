"""Keys: their text, their kinds, and that private ones keep to themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire.errors import DecodeError
from warren_wire.keys import (
    ChallengePrivate,
    ChallengePublic,
    DiscoPrivate,
    DiscoPublic,
    MachinePrivate,
    MachinePublic,
    NodePrivate,
    NodePublic,
    PublicKey,
)

PUBLIC = [
    (MachinePublic, "mkey:"),
    (NodePublic, "nodekey:"),
    (DiscoPublic, "discokey:"),
    (ChallengePublic, "chalpub:"),
]
SEED = bytes(range(1, 33))
raw_keys = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize(("kind", "prefix"), PUBLIC)
def test_text_form(kind: type[PublicKey], prefix: str) -> None:
    key = kind(bytes(range(32)))
    text = prefix + bytes(range(32)).hex()
    assert str(key) == text
    assert kind.parse(text) == key
    assert kind.parse(prefix + bytes(range(32)).hex().upper()) == key


@pytest.mark.parametrize(("kind", "prefix"), PUBLIC)
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text[:-1], id="a digit short"),
        pytest.param(lambda text: text + "0", id="a digit long"),
        pytest.param(lambda text: text[:-1] + "g", id="no hex"),
        pytest.param(lambda text: text[:-2] + " 0", id="white space"),
        pytest.param(lambda text: "x" + text[1:], id="another prefix"),
        pytest.param(lambda text: "", id="nothing"),
        pytest.param(lambda text: text + "\n", id="a line end"),
    ],
)
def test_other_text_is_refused(kind: type[PublicKey], prefix: str, change: object) -> None:
    assert callable(change)
    with pytest.raises(DecodeError):
        kind.parse(change(prefix + "00" * 32))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        NodePublic(bytes(length))
    with pytest.raises(ValueError):
        NodePrivate.from_seed(bytes(length))


def test_the_zero_key() -> None:
    assert NodePublic.zero().is_zero
    assert str(NodePublic.zero()) == "nodekey:" + "0" * 64
    assert not NodePublic(SEED).is_zero


def test_keys_of_two_kinds_are_never_equal() -> None:
    node, disco = NodePublic(SEED), DiscoPublic(SEED)
    assert node.raw == disco.raw
    assert len({node, disco, NodePublic(SEED)}) == 2


def test_short_form() -> None:
    assert NodePublic(SEED).short() == "[AQIDB]"
    assert repr(NodePublic(SEED)) == "NodePublic([AQIDB])"


@pytest.mark.parametrize("kind", [MachinePrivate, NodePrivate, DiscoPrivate, ChallengePrivate])
def test_a_private_key_is_clamped_and_hidden(
    kind: type[MachinePrivate | NodePrivate | DiscoPrivate | ChallengePrivate],
) -> None:
    key = kind.from_seed(b"\xff" * 32)
    assert key.raw == b"\xf8" + b"\xff" * 30 + b"\x7f"
    assert key.to_text() == "privkey:" + key.raw.hex()
    assert kind.parse(key.to_text()) == key
    assert key.raw.hex() not in f"{key} {key!r}"
    assert "ff" not in f"{key} {key!r}"


def test_a_wrong_private_key_is_not_repeated_in_the_error() -> None:
    with pytest.raises(DecodeError) as caught:
        NodePrivate.parse("privkey:" + "ab" * 31)
    assert "abab" not in str(caught.value)


def test_public_of_private() -> None:
    assert (
        MachinePrivate.from_seed(SEED).public.raw.hex()
        == "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c"
    )


@given(raw_keys)
def test_round_trip(raw: bytes) -> None:
    assert NodePublic.parse(str(NodePublic(raw))).raw == raw


@given(st.text(max_size=100))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    try:
        NodePublic.parse(text)
    except DecodeError:
        pass
