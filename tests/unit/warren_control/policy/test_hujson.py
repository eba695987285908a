"""JSON with comments: values with places, and texts that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from warren_control.policy.hujson import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Array,
    HuJsonError,
    Object,
    Positions,
    String,
    decode_text,
    parse,
    plain,
)


def test_comments_and_trailing_commas_mean_nothing() -> None:
    text = '{ // one\n "a": [1, /* two, \n */ 2,], "b": {"c": null,}, }\n/* end **/ // last'
    assert plain(parse(text)) == {"a": [1, 2], "b": {"c": None}}


def test_what_looks_like_a_comment_inside_a_string_is_text() -> None:
    assert plain(parse('["// no", "/* no */", "http://example.com"]')) == [
        "// no",
        "/* no */",
        "http://example.com",
    ]


def test_values_know_where_they_stand() -> None:
    text = '{\n  "a": [\n    "x",\n    "y"]}'
    root = parse(text)
    assert isinstance(root, Object)
    member = root.members[0]
    assert isinstance(member.value, Array)
    word = member.value.values[1]
    assert isinstance(word, String)
    positions = Positions(text)
    assert [positions.of(one) for one in (member.name.offset, member.value.offset, word.offset)] == [
        (2, 3),
        (2, 8),
        (4, 5),
    ]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", (1, 1), "expected a value, found the end of the text"),
        ('{"a" 1}', (1, 6), "expected ':' after the member name \"a\""),
        ('{"a": 1\n "b": 2}', (2, 2), "expected ',' or '}' (opened at line 1, column 1)"),
        ("[1 2]", (1, 4), "expected ',' or ']'"),
        ("[,]", (1, 2), "expected a value"),
        ("{,}", (1, 2), "expected a member name in double quotes or '}'"),
        ("{a: 1}", (1, 2), "expected a member name in double quotes"),
        ("{'a': 1}", (1, 2), "expected a member name in double quotes"),
        ("[1,,2]", (1, 4), "expected a value"),
        ("[1] [2]", (1, 5), "expected the end of the policy"),
        ('["a', (1, 2), "a string that does not end on its line"),
        ('["a\nb"]', (1, 2), "a string that does not end on its line"),
        ('["\\x"]', (1, 2), "invalid escape"),
        ('["\\ud800"]', (1, 2), "half of a surrogate pair"),
        ("[/* ]", (1, 2), "a comment that is not closed"),
        ("[True]", (1, 2), "expected a value"),
        ("[01]", (1, 3), "expected ',' or ']'"),
        ("[1e999]", (1, 2), "a number beyond what can be passed on"),
        ("[" + "9" * 100 + "]", (1, 2), "a number beyond what can be passed on"),
        ("\ufeff{}", (1, 1), "byte order mark"),
        ("[\0]", (1, 2), "expected a value"),
    ],
)
def test_a_text_that_is_no_json_is_refused_at_its_place(
    text: str, place: tuple[int, int], words: str
) -> None:
    with pytest.raises(HuJsonError) as caught:
        parse(text)
    assert words in caught.value.text
    assert Positions(text).of(caught.value.offset) == place


def test_nesting_is_bounded_without_recursion() -> None:
    assert plain(parse("[" * MAX_DEPTH + "]" * MAX_DEPTH))
    for opening in ("[", '{"a":'):
        with pytest.raises(HuJsonError, match="nested deeper"):
            parse(opening * 10_000)


def test_the_number_of_values_is_bounded() -> None:
    with pytest.raises(HuJsonError, match="more than"):
        parse("[" + "0," * MAX_VALUES + "0]")


def test_size_and_encoding_are_checked_before_anything_is_read() -> None:
    with pytest.raises(HuJsonError, match="at most"):
        decode_text(b" " * (MAX_BYTES + 1))
    with pytest.raises(HuJsonError, match="byte 0xff"):
        decode_text(b'{"a": "\xff"}')
    with pytest.raises(HuJsonError, match="NUL"):
        decode_text("{} // a\0b")
    with pytest.raises(HuJsonError, match="lone surrogate"):
        decode_text('{"a": "\ud800"}')


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def outcome(text: str) -> Any:
    """The value, or the error."""
    try:
        return plain(parse(text))
    except HuJsonError as error:
        return error


@given(JSON, st.sampled_from([None, 2]))
def test_json_is_read_as_the_standard_library_reads_it(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    found = outcome(text)
    if isinstance(found, HuJsonError):
        # JSON can write half a surrogate pair, which UTF-8 cannot carry.
        assert "surrogate" in found.text
    else:
        assert found == json.loads(text)


@given(st.text(alphabet='{}[]",:/*\\ \n0a-.eutrfalsn', max_size=40))
@example('{"a":/**/[1,//\n],}')
def test_any_text_gives_a_value_or_an_error_with_a_place_inside(text: str) -> None:
    found = outcome(text)
    assert not isinstance(found, HuJsonError) or 0 <= found.offset <= len(text)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_text_or_an_error(data: bytes) -> None:
    try:
        found = decode_text(data)
    except HuJsonError as error:
        found = error.text
    assert found == data.decode(errors="replace") or "UTF-8" in found
