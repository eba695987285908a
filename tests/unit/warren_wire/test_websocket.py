"""The server's side of WebSocket: bytes in messages, whatever their boundaries, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire import websocket
from warren_wire.errors import DecodeError
from warren_wire.websocket import WebSocketReader

MASK = b"\x01\x02\x03\x04"
BINARY, CONTINUATION, TEXT, CLOSE, PING, PONG = 2, 0, 1, 8, 9, 10


def message(kind: int, data: bytes, *, final: bool = True) -> bytes:
    """A frame as clients send it."""
    first = bytes(((0x80 if final else 0) | kind,))
    if len(data) < 126:
        length = bytes((0x80 | len(data),))
    elif len(data) < 1 << 16:
        length = bytes((0x80 | 126,)) + len(data).to_bytes(2, "big")
    else:
        length = bytes((0x80 | 127,)) + len(data).to_bytes(8, "big")
    masked = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(data))
    return first + length + MASK + masked


def test_the_answer_is_that_of_the_standard() -> None:
    headers = {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13"}
    answer = websocket.upgrade_response(headers, "derp").split(b"\r\n")
    assert answer[0] == b"HTTP/1.1 101 Switching Protocols"
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
    assert b"Sec-WebSocket-Protocol: derp" in answer


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="},
        {"sec-websocket-key": "short", "sec-websocket-version": "13"},
        {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "8"},
    ],
)
def test_other_requests_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(DecodeError):
        websocket.upgrade_response(headers, "derp")


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_messages_are_one_stream_however_they_arrive(messages: list[bytes], step: int) -> None:
    data = b"".join(message(BINARY, each) for each in messages)
    reader = WebSocketReader()
    found = b"".join(reader.receive_data(data[start : start + step]) for start in range(0, len(data), step))
    assert found == b"".join(messages)


def test_lengths_of_every_form_are_read_and_written() -> None:
    for size in (0, 125, 126, 65535, 65536):
        assert WebSocketReader().receive_data(message(BINARY, bytes(size))) == bytes(size)
        written = websocket.encode(bytes(size))
        masked = message(BINARY, bytes(size))
        assert len(masked) - len(written) == len(MASK)
        assert written[1] == masked[1] & 0x7F


def test_parts_of_a_message_pings_and_the_goodbye() -> None:
    reader = WebSocketReader()
    data = message(BINARY, b"one", final=False) + message(PING, b"?") + message(CONTINUATION, b"two")
    assert reader.receive_data(data) == b"onetwo"
    assert reader.replies() == b"\x8a\x01?"
    assert reader.replies() == b""
    last = message(PONG, b"") + message(CLOSE, b"\x03\xe8bye") + message(BINARY, b"late")
    assert reader.receive_data(last) == b""
    assert reader.closed
    assert reader.replies() == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    "data",
    [
        message(TEXT, b"hello"),
        message(CONTINUATION, b"of nothing"),
        message(BINARY, b"one", final=False) + message(BINARY, b"two"),
        message(PING, bytes(126)),
        message(PING, b"", final=False),
        b"\x82\x01x",
        b"\xc2\x80" + MASK,
        b"\x82\xff" + (1 << 40).to_bytes(8, "big"),
    ],
    ids=["text", "continuation", "nested", "long ping", "cut ping", "no mask", "extension", "too long"],
)
def test_what_breaks_the_rules_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        WebSocketReader().receive_data(data)
