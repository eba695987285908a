"""Frames of the map stream: however they are cut, whatever they claim."""

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from warren_wire.control.mapstream import KEEP_ALIVE, FrameDecoder, encode_frame
from warren_wire.errors import DecodeError

DOCUMENTS = [b'{"Domain":"mesh"}', KEEP_ALIVE, b'{"Health":[]}']


def test_the_length_is_little_endian() -> None:
    assert encode_frame(b"{}", compress=False) == b"\x02\x00\x00\x00{}"


def test_a_compressed_frame_is_one_zstd_frame() -> None:
    frame = encode_frame(DOCUMENTS[0], compress=True)
    assert int.from_bytes(frame[:4], "little") == len(frame) - 4
    assert zstandard.ZstdDecompressor().decompress(frame[4:]) == DOCUMENTS[0]


def test_a_keep_alive_always_has_the_same_bytes() -> None:
    assert encode_frame(KEEP_ALIVE, compress=True) == encode_frame(KEEP_ALIVE, compress=True)


@pytest.mark.parametrize("compress", [False, True])
def test_frames_come_out_whole_and_byte_by_byte(compress: bool) -> None:
    stream = b"".join(encode_frame(document, compress=compress) for document in DOCUMENTS)
    assert FrameDecoder(compressed=compress).feed(stream) == DOCUMENTS
    decoder = FrameDecoder(compressed=compress)
    assert [out for i in range(len(stream)) for out in decoder.feed(stream[i : i + 1])] == DOCUMENTS
    assert decoder.buffered_bytes == 0


@pytest.mark.parametrize("compress", [False, True])
def test_half_a_frame_waits(compress: bool) -> None:
    frame = encode_frame(DOCUMENTS[0], compress=compress)
    for length in range(len(frame)):
        decoder = FrameDecoder(compressed=compress)
        assert decoder.feed(frame[:length]) == []
        assert decoder.buffered_bytes == length


def test_a_frame_without_a_size_in_its_header_is_read() -> None:
    payload = zstandard.ZstdCompressor(write_content_size=False).compress(DOCUMENTS[0])
    frame = len(payload).to_bytes(4, "little") + payload
    assert FrameDecoder(compressed=True).feed(frame) == [DOCUMENTS[0]]


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "little") + payload


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(framed(b""), id="empty"),
        pytest.param(framed(b"{}"), id="not compressed"),
        pytest.param(b"\x01\x04\x00\x00", id="longer than allowed"),
        pytest.param(framed(zstandard.compress(bytes(2000))), id="a bomb that says so"),
        pytest.param(
            framed(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2000))),
            id="a bomb that does not",
        ),
        pytest.param(framed(zstandard.compress(DOCUMENTS[0])[:-1]), id="cut inside"),
    ],
)
def test_a_wrong_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(DecodeError):
        FrameDecoder(compressed=True, max_frame_bytes=1024).feed(frame)


def test_a_large_map_passes() -> None:
    document = bytes(range(256)) * 30_000
    frame = encode_frame(document, compress=True)
    assert FrameDecoder(compressed=True).feed(frame) == [document]


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5), st.booleans(), st.integers(1, 64))
def test_round_trip_however_it_is_cut(documents: list[bytes], compress: bool, cut: int) -> None:
    stream = b"".join(encode_frame(document, compress=compress) for document in documents)
    decoder = FrameDecoder(compressed=compress)
    cuts = range(0, len(stream), cut)
    assert [out for i in cuts for out in decoder.feed(stream[i : i + cut])] == documents


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_frames_or_refused(data: bytes, compressed: bool) -> None:
    for stream in (data, framed(data), framed(b"\x28\xb5\x2f\xfd" + data)):
        try:
            FrameDecoder(compressed=compressed, max_frame_bytes=4096).feed(stream)
        except DecodeError:
            pass
