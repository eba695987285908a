"""Typed reading of a parsed text: fields of objects, lists of words. Problems are collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from warren_control.policy.document import Located, Place
from warren_control.policy.hujson import Array, Boolean, Member, Null, Object, String, Value, kind_of
from warren_control.policy.problems import ProblemList, quoted
from warren_control.policy.selectors import Kind, Names, Selector, SelectorError, parse_selector


@dataclass(frozen=True, slots=True)
class Chosen:
    """A selector, and the word that it was read from."""

    selector: Selector
    word: String
    path: str


_NO_FIELDS: Final[Mapping[str, Member]] = {}


def fields(
    problems: ProblemList,
    value: Value,
    where: str,
    allowed: tuple[str, ...],
    hint: Mapping[str, str] | None = None,
) -> Mapping[str, Member]:
    """The members of an object by their canonical names; null members are left out.

    Names match without regard to case, as the service's own decoder reads them. A name that starts with
    `#` carries an editor's notes and is skipped.
    """
    if isinstance(value, Null):
        return _NO_FIELDS
    if not isinstance(value, Object):
        problems.add(value.offset, where, f"found {kind_of(value)}", "an object")
        return _NO_FIELDS
    by_folded = {name.lower(): name for name in allowed}
    found: dict[str, Member] = {}
    for member in value.members:
        written = member.name.value
        if written.startswith("#"):
            continue
        name = by_folded.get(written.lower())
        if name is None:
            expected = (hint or {}).get(written.lower(), f"one of {', '.join(allowed)}")
            problems.add(
                member.name.offset,
                where,
                f"unknown field: {quoted(written)}",
                expected,
                name=written,
                candidates=allowed,
            )
        elif name in found:
            problems.add(member.name.offset, where, f"the field {quoted(name)} is given twice", "one of them")
        else:
            found[name] = member
    return {name: member for name, member in found.items() if not isinstance(member.value, Null)}


def entries(problems: ProblemList, value: Value, where: str) -> tuple[Member, ...]:
    """The members of an object whose names are free; each name once."""
    if isinstance(value, Null):
        return ()
    if not isinstance(value, Object):
        problems.add(value.offset, where, f"found {kind_of(value)}", "an object")
        return ()
    seen: set[str] = set()
    kept: list[Member] = []
    for member in value.members:
        if member.name.value in seen:
            problems.add(
                member.name.offset, where, f"{quoted(member.name.value)} is given twice", "one of them"
            )
            continue
        seen.add(member.name.value)
        kept.append(member)
    return tuple(kept)


def items(problems: ProblemList, value: Value, where: str) -> tuple[Value, ...]:
    if isinstance(value, Null):
        return ()
    if not isinstance(value, Array):
        problems.add(value.offset, where, f"found {kind_of(value)}", "a list")
        return ()
    return value.values


def words(problems: ProblemList, value: Value | None, where: str) -> tuple[tuple[String, str], ...]:
    """The strings of a list, each with its path."""
    if value is None:
        return ()
    found: list[tuple[String, str]] = []
    for index, one in enumerate(items(problems, value, where)):
        path = f"{where}[{index}]"
        if isinstance(one, String):
            found.append((one, path))
        else:
            problems.add(one.offset, path, f"found {kind_of(one)}", "a string")
    return tuple(found)


def word(problems: ProblemList, value: Value | None, where: str) -> String | None:
    if value is None or isinstance(value, Null):
        return None
    if not isinstance(value, String):
        problems.add(value.offset, where, f"found {kind_of(value)}", "a string")
        return None
    return value


def truth(problems: ProblemList, value: Value | None, where: str) -> bool:
    if value is None:
        return False
    if not isinstance(value, Boolean):
        problems.add(value.offset, where, f"found {kind_of(value)}", "true or false")
        return False
    return value.value


def selectors(
    problems: ProblemList,
    value: Value | None,
    where: str,
    names: Names,
    allowed: frozenset[Kind],
    *,
    wording: Callable[[str, SelectorError | None], str] = lambda text, error: (
        error.text if error is not None else f"{quoted(text)} cannot stand here"
    ),
    expected: str = "",
) -> tuple[Chosen, ...]:
    """The selectors of a list. `wording` says what is wrong with a word: an error, or a kind not allowed."""
    found: list[Chosen] = []
    for one, path in words(problems, value, where):
        selector = selector_of(problems, one, one.value, path, names, allowed, wording, expected)
        if selector is not None:
            found.append(Chosen(selector, one, path))
    return tuple(found)


def selector_of(
    problems: ProblemList,
    one: String,
    text: str,
    path: str,
    names: Names,
    allowed: frozenset[Kind],
    wording: Callable[[str, SelectorError | None], str],
    expected: str = "",
) -> Selector | None:
    text = text.strip()
    try:
        selector = parse_selector(text, names)
    except SelectorError as error:
        message = wording(text, error)
        problems.add(one.offset, path, message, error.expected, name=error.name, candidates=error.candidates)
        return None
    if selector.kind in allowed:
        return selector
    problems.add(one.offset, path, wording(text, None), expected)
    return None


def place_of(problems: ProblemList, offset: int, path: str) -> Place:
    return Place(path, *problems.position(offset))


def located(problems: ProblemList, found: Iterable[tuple[String, str]]) -> tuple[Located, ...]:
    return tuple(Located(one.value, place_of(problems, one.offset, path)) for one, path in found)


def value_of(members: Mapping[str, Member], name: str) -> Value | None:
    member = members.get(name)
    return None if member is None else member.value
