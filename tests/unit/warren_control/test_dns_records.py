"""The file of extra records is used whole or not at all."""

from __future__ import annotations

import pytest

from warren_control.dns_records import MAX_FILE_BYTES, parse
from warren_wire.control.messages import DNSRecord


def test_records_are_put_in_order_and_their_type_follows_from_the_address() -> None:
    data = (
        b'[{"name":"B.example.net.","value":"192.0.2.1"},{"name":"a.b","type":"AAAA","value":"2001:db8::1"}]'
    )
    assert parse(data) == (
        DNSRecord(name="a.b", type="AAAA", value="2001:db8::1"),
        DNSRecord(name="b.example.net", type="A", value="192.0.2.1"),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'[{"name":"a"}]',
        b'[{"name":"a","value":"b"}]',
        b'[{"name":"a","type":"CNAME","value":"192.0.2.1"}]',
        b'[{"name":"a","type":"A","value":"2001:db8::1"}]',
        b'[{"name":"a b","value":"192.0.2.1"}]',
        b" " * (MAX_FILE_BYTES + 1),
    ],
)
def test_a_file_that_is_not_usable_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse(data)
