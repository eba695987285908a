"""The list of the control server's checks against the tests that it names."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/protocols/control-checks.md").read_text()
POINTER = re.compile(r"`([a-z0-9_/]+)::(test_\w+)`")


@cache
def functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def test_each_named_test_exists() -> None:
    missing = [f"{file}::{name}" for file, name in POINTER.findall(TEXT) if name not in functions_of(file)]
    assert missing == []


def test_each_of_the_sixty_has_a_test_or_a_reason() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| .* \| (.+) \|$", TEXT, re.MULTILINE))
    assert [int(number) for number in rows] == list(range(1, 61))
    unproved = [number for number, where in rows.items() if not POINTER.search(where) and "not " not in where]
    assert unproved == []


def test_each_trap_and_each_fault_has_a_test() -> None:
    later = TEXT.split("## Ten traps")[1].partition("\nBeyond")[0]
    rows = [line for line in later.splitlines() if line.startswith("| ") and not line.endswith("| where |")]
    assert len(rows) == 17
    assert [row for row in rows if not POINTER.search(row)] == []
