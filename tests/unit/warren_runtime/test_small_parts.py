"""Back-off, logs, request heads and key files."""

from __future__ import annotations

import contextlib
import json
import logging
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_runtime import key_files
from warren_runtime.backoff import Backoff
from warren_runtime.http_head import HeadError, HeadFault, parse_head, split_head
from warren_runtime.logs import JsonFormatter, TextFormatter
from warren_wire.keys import MachinePrivate, NodePrivate

PEER = ("192.0.2.1", 5000)


def test_delays_double_up_to_a_maximum_and_start_over() -> None:
    backoff = Backoff(1, 5, uniform=lambda: 0.0)
    assert [backoff.next_delay_seconds() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next_delay_seconds() == 1


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10))
def test_jitter_only_shortens(uniform: float, attempts: int) -> None:
    backoff = Backoff(1, 8, jitter=0.5, uniform=lambda: uniform)
    for attempt in range(attempts):
        full = min(2.0**attempt, 8)
        assert full / 2 <= backoff.next_delay_seconds() <= full


def record(**fields: object) -> logging.LogRecord:
    made = logging.LogRecord("warren.test", logging.INFO, "", 0, "path changed", (), None)
    vars(made).update(fields)
    return made


def test_json_lines_hold_the_fields() -> None:
    line = json.loads(JsonFormatter().format(record(peer="[abcde]", path="direct", count=3)))
    assert (line["message"], line["level"], line["peer"], line["count"]) == (
        "path changed",
        "INFO",
        "[abcde]",
        3,
    )


def test_a_field_cannot_begin_a_new_line() -> None:
    for formatter in (JsonFormatter(), TextFormatter()):
        assert "\n" not in formatter.format(record(reason="evil\n2026 ERROR forged", empty=""))
    assert TextFormatter().format(record(path="direct")).endswith("INFO    path changed path=direct")


def test_an_exception_is_part_of_its_record() -> None:
    try:
        raise ValueError("why")
    except ValueError as error:
        failed = record(exc_info=(type(error), error, error.__traceback__))
    assert "ValueError: why" in json.loads(JsonFormatter().format(failed))["exception"]
    assert "ValueError: why" in TextFormatter().format(failed)


HEAD = (
    b"GET /derp?x=1 HTTP/1.1\r\nHost: relay\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: DERP \r\nA: 1\r\nA: 2\r\n\r\n"
)


def test_a_head_is_read() -> None:
    assert split_head(HEAD + b"rest") == len(HEAD)
    head = parse_head(HEAD, PEER)
    assert (head.method, head.target, head.path) == ("GET", "/derp?x=1", "/derp")
    assert (head.upgrade, head.headers["a"], head.peer, head.raw) == ("derp", "1, 2", PEER, HEAD)
    assert parse_head(b"GET http://relay:80/derp HTTP/1.1\r\n\r\n", PEER).path == "/derp"
    assert parse_head(b"GET / HTTP/1.1\r\nUpgrade: derp\r\n\r\n", PEER).upgrade == ""


def test_a_head_cut_short_is_not_yet_a_head() -> None:
    for length in range(len(HEAD)):
        assert split_head(HEAD[:length]) is None


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_a_head_or_the_declared_error(data: bytes, with_line: bool) -> None:
    raw = (b"GET / HTTP/1.1\r\n" if with_line else b"") + data + b"\r\n\r\n"
    with contextlib.suppress(HeadError):
        length = split_head(raw)
        if length is not None:
            parse_head(raw[:length], PEER)


HEAD_FAULTS = [
    (b"\x16\x03\x01", HeadFault.MALFORMED),
    (b"GET / HTTP/1.1\r\nX: " + bytes(17_000).replace(b"\0", b"a"), HeadFault.TOO_LARGE),
]


@pytest.mark.parametrize(("data", "fault"), HEAD_FAULTS)
def test_what_cannot_become_a_head_is_told_at_once(data: bytes, fault: HeadFault) -> None:
    with pytest.raises(HeadError) as caught:
        split_head(data)
    assert caught.value.fault is fault


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "state" / "derp.key"
    key = key_files.load_or_create(file, NodePrivate)
    assert key_files.load_or_create(file, NodePrivate) == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == ["derp.key"]


def test_a_key_that_appeared_meanwhile_is_used(tmp_path: Path) -> None:
    file = tmp_path / "noise.key"
    key = key_files.create(file, MachinePrivate)
    assert key_files.create(file, MachinePrivate) == key


def test_a_file_without_a_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    file = tmp_path / "derp.key"
    for content in (b"", b"privkey:1234", b"\xff\xff", b"secret words"):
        file.write_bytes(content)
        with pytest.raises(key_files.KeyFileError, match="holds no key") as caught:
            key_files.load_or_create(file, NodePrivate)
        assert "secret" not in str(caught.value)
    with pytest.raises(key_files.KeyFileError, match="cannot"):
        key_files.load_or_create(file / "below", NodePrivate)
