"""JSON with comments and trailing commas, read into values that know where they stand.

No recursion and one pass: depth, size and number of values are bounded before memory is. Knows nothing of
policies.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

# Real policies stay far below; a reader in Python takes about a microsecond a value.
MAX_BYTES: Final = 4 * 1024 * 1024
MAX_VALUES: Final = 100_000
MAX_DEPTH: Final = 64
MAX_NUMBER: Final = 64


class HuJsonError(Exception):
    """What is wrong at which offset of the text."""

    def __init__(self, offset: int, text: str) -> None:
        super().__init__(text)
        self.offset = offset
        self.text = text


@dataclass(frozen=True, slots=True)
class String:
    offset: int
    value: str


@dataclass(frozen=True, slots=True)
class Number:
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Boolean:
    offset: int
    value: bool


@dataclass(frozen=True, slots=True)
class Null:
    offset: int


@dataclass(frozen=True, slots=True)
class Array:
    offset: int
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Member:
    name: String
    value: Value


@dataclass(frozen=True, slots=True)
class Object:
    offset: int
    members: tuple[Member, ...]


Value = String | Number | Boolean | Null | Array | Object
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*(?:[^*]|\*(?!/))*+\*/)*+")
_STRING: Final = re.compile(r'"((?:[^"\\\x00-\x1f]|\\.)*+)"')
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NAMES: Final = {"{": "an object", "[": "a list"}


class Positions:
    """Line and column (both from 1) of offsets in a text."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def of(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


def decode_text(data: bytes | str) -> str:
    """The text of a policy, within the size limit and in valid UTF-8, or `HuJsonError`."""
    size = len(data)
    if size > MAX_BYTES:
        raise HuJsonError(0, f"the policy has {size} bytes; at most {MAX_BYTES} are accepted")
    if isinstance(data, str):
        found = _SURROGATE.search(data)
        if found is not None:
            raise HuJsonError(found.start(), "invalid UTF-8: a lone surrogate is not a character")
        return _without_nul(data)
    try:
        return _without_nul(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        before = len(data[: error.start].decode("utf-8"))
        raise HuJsonError(before, f"invalid UTF-8: byte 0x{data[error.start]:02x}") from error


def _without_nul(text: str) -> str:
    """Databases keep no text with a NUL, which comments could hold."""
    place = text.find("\0")
    if place >= 0:
        raise HuJsonError(place, "the character NUL is not text")
    return text


def position_in(data: bytes | str, offset: int) -> tuple[int, int]:
    """Line and column of an offset in a text that may not be decodable as a whole."""
    text = data if isinstance(data, str) else data[: 4 * (offset + 1)].decode("utf-8", "replace")
    return Positions(text).of(offset)


def parse(text: str) -> Value:
    """The one value of a text, or `HuJsonError`."""
    return _Parser(text).document()


@dataclass(slots=True)
class _Open:
    """A container that is not closed yet. `name` is the member name that waits for its value."""

    offset: int
    is_object: bool
    values: list[Value]
    members: list[Member]
    name: String | None = None

    def add(self, value: Value) -> None:
        if self.name is None:
            self.values.append(value)
        else:
            self.members.append(Member(self.name, value))
            self.name = None

    def closed(self) -> Value:
        if self.is_object:
            return Object(self.offset, tuple(self.members))
        return Array(self.offset, tuple(self.values))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._count = 0

    def document(self) -> Value:
        if self._text.startswith("\ufeff"):
            raise HuJsonError(0, "the text starts with a byte order mark; save it as UTF-8 without one")
        stack: list[_Open] = []
        while True:
            value = self._step(stack)
            if value is None:
                continue
            if stack:
                stack[-1].add(value)
                self._after_value(stack[-1])
                continue
            self._blank()
            if self._at != len(self._text):
                raise self._wrong("the end of the policy")
            return value

    def _step(self, stack: list[_Open]) -> Value | None:
        """A value that is complete, or None after a container was opened."""
        self._blank()
        char = self._text[self._at : self._at + 1]
        if stack and char == ("}" if stack[-1].is_object else "]"):
            self._at += 1
            return stack.pop().closed()
        if stack and stack[-1].is_object:
            stack[-1].name = self._member_name()
            char = self._text[self._at : self._at + 1]
        self._count += 1
        if self._count > MAX_VALUES:
            raise HuJsonError(self._at, f"more than {MAX_VALUES} values")
        if char == "{" or char == "[":
            if len(stack) == MAX_DEPTH:
                raise HuJsonError(self._at, f"{_NAMES[char]} nested deeper than {MAX_DEPTH} levels")
            stack.append(_Open(self._at, char == "{", [], []))
            self._at += 1
            return None
        return self._scalar(char)

    def _member_name(self) -> String:
        if self._text[self._at : self._at + 1] != '"':
            raise self._wrong("a member name in double quotes or '}'")
        name = self._string()
        self._blank()
        if self._text[self._at : self._at + 1] != ":":
            raise self._wrong(f"':' after the member name {json.dumps(name.value[:80])}")
        self._at += 1
        self._blank()
        return name

    def _after_value(self, container: _Open) -> None:
        self._blank()
        closing = "}" if container.is_object else "]"
        char = self._text[self._at : self._at + 1]
        if char == ",":
            self._at += 1
        elif char != closing:
            opened = Positions(self._text).of(container.offset)
            raise self._wrong(f"',' or '{closing}' (opened at line {opened[0]}, column {opened[1]})")

    def _scalar(self, char: str) -> Value:
        start = self._at
        if char == '"':
            return self._string()
        number = _NUMBER.match(self._text, start)
        if number is not None:
            self._at = number.end()
            if len(number.group()) > MAX_NUMBER or math.isinf(float(number.group())):
                raise HuJsonError(start, "a number beyond what can be passed on")
            return Number(start, number.group())
        word = _WORD.match(self._text, start)
        match word.group() if word is not None else "":
            case "true" | "false" as truth:
                self._at += len(truth)
                return Boolean(start, truth == "true")
            case "null":
                self._at += 4
                return Null(start)
            case _:
                raise self._wrong("a value")

    def _string(self) -> String:
        start = self._at
        found = _STRING.match(self._text, start)
        if found is None:
            raise HuJsonError(start, "a string that does not end on its line, or has a control character")
        self._at = found.end()
        raw = found.group(1)
        if "\\" not in raw:
            return String(start, raw)
        try:
            value = json.loads(found.group())
        except ValueError as error:
            raise HuJsonError(start, "a string with an invalid escape sequence") from error
        assert isinstance(value, str)
        if _SURROGATE.search(value):
            raise HuJsonError(start, "a string with half of a surrogate pair")
        return String(start, value)

    def _blank(self) -> None:
        found = _BLANK.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        if self._text.startswith("/*", self._at):
            raise HuJsonError(self._at, "a comment that is not closed: '*/' is missing")

    def _wrong(self, expected: str) -> HuJsonError:
        rest = self._text[self._at : self._at + 20].split("\n")[0]
        found = json.dumps(rest, ensure_ascii=False) if rest else "the end of the text"
        return HuJsonError(self._at, f"expected {expected}, found {found}")


def plain(value: Value) -> Json:
    """The value as Python's JSON types. Depth is bounded by `MAX_DEPTH`."""
    match value:
        case String() | Boolean():
            return value.value
        case Null():
            return None
        case Number(text=text):
            number: Json = json.loads(text)
            return number
        case Array(values=values):
            return [plain(one) for one in values]
        case Object(members=members):
            return {member.name.value: plain(member.value) for member in members}


def kind_of(value: Value) -> str:
    match value:
        case String():
            return "a string"
        case Number():
            return "a number"
        case Boolean():
            return "true or false"
        case Null():
            return "null"
        case Array():
            return "a list"
        case Object():
            return "an object"
