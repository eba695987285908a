"""Requests of the control server into the node."""

from __future__ import annotations

import http.client
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_agent.control.c2n import MAX_REQUEST_BYTES, Outcome, answer

ECHO = b"POST /echo?x=1 HTTP/1.1\r\nHost: node\r\nContent-Length: 5\r\n\r\nhello"


class _Sock:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def read(response: bytes) -> tuple[int, bytes]:
    """The answer as the standard library understands it."""
    parsed = http.client.HTTPResponse(_Sock(response))  # type: ignore[arg-type]
    parsed.begin()
    return parsed.status, parsed.read()


@pytest.mark.parametrize(
    ("request_", "status", "body", "outcome"),
    [
        (ECHO, 200, b"hello", Outcome.ANSWERED),
        (b"GET /echo HTTP/1.1\r\n\r\n", 200, b"", Outcome.ANSWERED),
        (b"GET /debug/prefs HTTP/1.1\r\n\r\n", 400, b"unknown c2n path", Outcome.UNKNOWN),
        (b"POST /update HTTP/1.1\r\n\r\n", 400, b"unknown c2n path", Outcome.UNKNOWN),
        (b"", 400, b"not an HTTP request", Outcome.MALFORMED),
        (b"GET /echo\r\n\r\n", 400, b"not an HTTP request", Outcome.MALFORMED),
        (
            b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            b"not an HTTP request",
            Outcome.MALFORMED,
        ),
        (
            b"POST /echo HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
            400,
            b"not an HTTP request",
            Outcome.MALFORMED,
        ),
        (ECHO + b"x" * MAX_REQUEST_BYTES, 400, b"not an HTTP request", Outcome.MALFORMED),
    ],
)
def test_only_the_echo_gives_something_back(
    request_: bytes, status: int, body: bytes, outcome: Outcome
) -> None:
    result = answer(request_)
    assert (*read(result.response), result.outcome) == (status, body, outcome)


@pytest.mark.parametrize("length", range(len(ECHO)))
def test_a_cut_request_is_malformed(length: int) -> None:
    assert answer(ECHO[:length]).outcome is Outcome.MALFORMED


@given(st.binary(max_size=300))
def test_whatever_is_sent_gets_a_whole_response(body: bytes) -> None:
    read(answer(body).response)
    length = str(len(body)).encode()
    echoed = answer(b"POST /echo HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\n" + body)
    assert read(echoed.response) == (200, body)
