"""The handshake and the records, byte by byte against published values."""

import pytest

from warren_wire.control.records import MAX_PLAINTEXT_BYTES, RecordReader, RecordWriter
from warren_wire.crypto import blake2s, chacha20poly1305_seal
from warren_wire.errors import AuthenticationError, DecodeError, RemoteProtocolError
from warren_wire.keys import MachinePrivate
from warren_wire.noise import PROTOCOL_NAME, Initiator, accept, error_message

SERVER = MachinePrivate.from_seed(bytes(range(0x01, 0x21)))
MACHINE = MachinePrivate.from_seed(bytes(range(0x21, 0x41)))
CLIENT_EPHEMERAL = bytes(range(0x41, 0x61))
SERVER_EPHEMERAL = bytes(range(0x61, 0x81))
VERSION = 145

INITIATION = bytes.fromhex(
    "009101006064b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d484660806c371c2f5b89e49d5c606b01d"
    "6586a9712bf580bcfb3a6c2d1d66cc5a9591446889758890ea7dd4499b071026cc3d9ecce39fe640dafd50888e63784bae79"
)
RESPONSE = bytes.fromhex(
    "020030244fe3b963e899dd295baffce248d3530f3a9a7479ba063002680ebfe7adad49de75d76faef311c84a2bc8a9596ccb48"
)
HANDSHAKE_HASH = "87a7882bf5f3943b29696e3ee1a46dfe03744b999f9e065b0e24cc28b28b3096"
CLIENT_KEY = bytes.fromhex("d5e58dae60ff25cc337ac1ea707d6c02dd1de177f8bc6d566627fc383ac00af8")
SERVER_KEY = bytes.fromhex("6efd2cd4516d87a0827fbc5863fa03c5d58eafd0da54497d5190362fe50b0f6f")
CLIENT_RECORDS = (
    bytes.fromhex("04001e8b2e0c876dbab1a674906e8272133a70f9af9290923ee5d019f081a7e236"),
    bytes.fromhex("04001ec03f0353c1ce23b93e8f208787061128443fe5fce0638b61bf536d5b192d"),
)
SERVER_RECORD = bytes.fromhex("040015946cea560e58f96d04e66de3bdaeef277e53f2e3d5")


def initiator() -> Initiator:
    return Initiator(machine=MACHINE, server=SERVER.public, ephemeral_seed=CLIENT_EPHEMERAL, version=VERSION)


def test_public_keys() -> None:
    assert SERVER.public.raw.hex() == "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c"
    assert MACHINE.public.raw.hex() == "5869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67b"


def test_the_protocol_name_is_hashed() -> None:
    assert blake2s(PROTOCOL_NAME).hex() == "bbea022b948cf3bc5857d70804229179e1116bc40cb8cc074835349c464bca36"


def test_the_initiator_writes_the_known_initiation() -> None:
    assert initiator().message == INITIATION


def test_the_responder_learns_the_machine_and_writes_the_known_response() -> None:
    accepted = accept(server=SERVER, initiation=INITIATION, ephemeral_seed=SERVER_EPHEMERAL)
    assert accepted.machine == MACHINE.public
    assert accepted.version == VERSION
    assert accepted.message == RESPONSE
    assert accepted.established.handshake_hash.hex() == HANDSHAKE_HASH
    assert accepted.established.send_key == SERVER_KEY
    assert accepted.established.receive_key == CLIENT_KEY


def test_the_initiator_ends_with_the_same_keys() -> None:
    established = initiator().read_response(RESPONSE)
    assert established.handshake_hash.hex() == HANDSHAKE_HASH
    assert established.send_key == CLIENT_KEY
    assert established.receive_key == SERVER_KEY


def test_records_count_their_nonces_big_endian() -> None:
    client = RecordWriter(CLIENT_KEY)
    assert client.seal(b"PRI * HTTP/2.0") == CLIENT_RECORDS[0]
    assert client.seal(b"PRI * HTTP/2.0") == CLIENT_RECORDS[1]
    assert RecordWriter(SERVER_KEY).seal(b"\xff\xff\xffTS") == SERVER_RECORD
    assert RecordReader(CLIENT_KEY).feed(b"".join(CLIENT_RECORDS)) == b"PRI * HTTP/2.0" * 2
    assert RecordReader(SERVER_KEY).feed(SERVER_RECORD) == b"\xff\xff\xffTS"


@pytest.mark.parametrize("length", range(len(INITIATION)))
def test_a_short_initiation_is_no_initiation(length: int) -> None:
    with pytest.raises(DecodeError):
        accept(server=SERVER, initiation=INITIATION[:length], ephemeral_seed=SERVER_EPHEMERAL)


@pytest.mark.parametrize("length", range(len(RESPONSE)))
def test_a_short_response_is_no_response(length: int) -> None:
    with pytest.raises(DecodeError):
        initiator().read_response(RESPONSE[:length])


@pytest.mark.parametrize("position", range(len(INITIATION)))
def test_any_changed_byte_of_an_initiation_is_noticed(position: int) -> None:
    changed = bytearray(INITIATION)
    changed[position] ^= 0x01
    with pytest.raises((DecodeError, AuthenticationError)):
        accept(server=SERVER, initiation=bytes(changed), ephemeral_seed=SERVER_EPHEMERAL)


@pytest.mark.parametrize("position", range(len(RESPONSE)))
def test_any_changed_byte_of_a_response_is_noticed(position: int) -> None:
    changed = bytearray(RESPONSE)
    changed[position] ^= 0x01
    with pytest.raises((DecodeError, AuthenticationError)):
        initiator().read_response(bytes(changed))


def test_an_initiation_for_another_server_does_not_verify() -> None:
    with pytest.raises(AuthenticationError):
        accept(server=MACHINE, initiation=INITIATION, ephemeral_seed=SERVER_EPHEMERAL)


def test_a_low_order_ephemeral_key_ends_the_handshake() -> None:
    with pytest.raises(AuthenticationError):
        accept(
            server=SERVER,
            initiation=INITIATION[:5] + bytes(32) + INITIATION[37:],
            ephemeral_seed=SERVER_EPHEMERAL,
        )


def test_handshake_results_hide_their_keys() -> None:
    accepted = accept(server=SERVER, initiation=INITIATION, ephemeral_seed=SERVER_EPHEMERAL)
    assert SERVER_KEY.hex() not in repr(accepted)
    assert repr(SERVER_KEY) not in repr(accepted)


def test_an_error_message_has_its_length() -> None:
    assert error_message("go away") == b"\x03\x00\x07go away"


def test_a_long_write_becomes_records_of_the_largest_size() -> None:
    sealed = RecordWriter(CLIENT_KEY).seal(bytes(5000))
    lengths = [int.from_bytes(sealed[1:3], "big"), int.from_bytes(sealed[4097:4099], "big")]
    assert lengths == [4093, 939]
    assert MAX_PLAINTEXT_BYTES == 4077


def test_record_boundaries_mean_nothing() -> None:
    plaintext = bytes(range(256)) * 64
    sealed = RecordWriter(CLIENT_KEY).seal(plaintext)
    reader = RecordReader(CLIENT_KEY)
    assert b"".join(reader.feed(sealed[i : i + 1]) for i in range(len(sealed))) == plaintext


def test_an_empty_record_is_skipped() -> None:
    empty = b"\x04\x00\x10" + chacha20poly1305_seal(CLIENT_KEY, bytes(12), b"")
    assert RecordReader(CLIENT_KEY).feed(empty) == b""


def test_nothing_to_seal_makes_no_record() -> None:
    assert RecordWriter(CLIENT_KEY).seal(b"") == b""


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b"\x05" + CLIENT_RECORDS[0][1:], id="another type"),
        pytest.param(b"\x04\x0f\xfe", id="longer than allowed"),
        pytest.param(b"\x04\x00\x0f" + bytes(15), id="shorter than its tag"),
        pytest.param(CLIENT_RECORDS[1], id="out of order"),
        pytest.param(CLIENT_RECORDS[0][:-1] + b"\x00", id="changed"),
    ],
)
def test_a_wrong_record_ends_the_connection(record: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        RecordReader(CLIENT_KEY).feed(record)
