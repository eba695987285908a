"""What a server says of a policy, as lines that editors jump to: `FILE:LINE:COLUMN: message (hint)`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from warren_cli.asking import Problem
from warren_cli.client import ApiError

STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """A policy that a person gave."""

    name: str
    """As lines about it begin."""
    text: str


def read(file: str) -> Source:
    """The file's text; `-` is standard input."""
    name = "<stdin>" if file == STDIN else file
    try:
        if file == STDIN:
            data: bytes = sys.stdin.buffer.read()
        else:
            data = Path(file).read_bytes()
    except OSError as error:
        raise Problem(f"cannot read {file}: {error.strerror}") from error
    try:
        return Source(name, data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise Problem(f"{name}:{line}:{column}: this byte is not UTF-8") from error


def complaints(name: str, answer: Mapping[str, Any]) -> Iterator[str]:
    """A line for each problem, then for each test that failed, then for each warning."""
    for problem in answer.get("problems") or ():
        yield _line(name, problem, problem["message"])
    for test in answer.get("tests") or ():
        if not test["passed"]:
            yield _line(name, test, f"{test['path']}: {test['message']}")
    for warning in answer.get("warnings") or ():
        yield _line(name, warning, f"warning: {warning['message']}")


def refusal(name: str, error: ApiError) -> Problem:
    """The places in the text where the server says what is wrong; else its own words."""
    lines = list(complaints(name, error.document))
    if lines:
        return Problem("the policy was refused\n" + "\n".join(lines))
    return Problem(str(error))


def _line(name: str, about: Mapping[str, Any], message: str) -> str:
    place = f"{name}:{about.get('line') or 1}:{about.get('column') or 1}"
    hint = about.get("hint")
    return f"{place}: {message} ({hint})" if hint else f"{place}: {message}"
