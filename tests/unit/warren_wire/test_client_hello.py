"""The first message of a TLS client: of real ones, cut anywhere, and bytes that are none."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_wire import client_hello
from warren_wire.client_hello import ClientHello
from warren_wire.errors import DecodeError


def of_openssl(name: str, protocols: list[str]) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    machine = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        machine.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("name", "protocols", "expected"),
    [
        ("relay.example.net", [], ClientHello("relay.example.net", ())),
        ("Relay.Example.net", ["acme-tls/1"], ClientHello("relay.example.net", (b"acme-tls/1",))),
        ("relay.example.net", ["h2", "http/1.1"], ClientHello("relay.example.net", (b"h2", b"http/1.1"))),
        # Addresses are not names (RFC 6066 3).
        ("203.0.113.5", ["h2"], ClientHello("", (b"h2",))),
    ],
)
def test_the_name_and_the_protocols_are_found(name: str, protocols: list[str], expected: ClientHello) -> None:
    data = of_openssl(name, protocols)
    assert client_hello.decode(data) == expected
    assert client_hello.decode(data + b"more") == expected
    for length in range(len(data)):
        wanted = client_hello.decode(data[:length])
        assert isinstance(wanted, int)
        assert length < wanted <= len(data)


def test_a_hello_without_extensions_names_nothing() -> None:
    body = b"\x03\x01" + bytes(32) + b"\x00" + b"\x00\x02\x00\x2f" + b"\x01\x00"
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    assert client_hello.decode(b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message) == ClientHello(
        "", ()
    )


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x01\x00",  # an alert
        b"\x16\x03\x01\xff\xff",  # longer than a record may be
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x04\x01\x00\x10\x00",  # goes on in another record
    ],
)
def test_what_is_no_hello_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        client_hello.decode(data)


HELLO = of_openssl("relay.example.net", ["acme-tls/1"])


@given(st.integers(5, len(HELLO) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(at: int, value: int) -> None:
    data = HELLO[:at] + bytes((value,)) + HELLO[at + 1 :]
    try:
        assert isinstance(client_hello.decode(data), ClientHello)
    except DecodeError:
        pass
