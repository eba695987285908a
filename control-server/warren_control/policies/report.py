"""What an examination found, as lines that editors jump to: `FILE:LINE:COLUMN: message (hint)`."""

from __future__ import annotations

from collections.abc import Iterator

from warren_control.policies.examination import Examination
from warren_control.policy.problems import Problem


def told(name: str, found: Examination) -> Iterator[str]:
    """Problems, then tests that fail, then warnings."""
    for problem in found.problems:
        yield _line(name, problem, problem.text)
    for test in found.failed:
        yield f"{name}:{test.line}:1: {test.path}: {test.message}"
    for warning in found.warnings:
        yield _line(name, warning, f"warning: {warning.text}")


def _line(name: str, problem: Problem, text: str) -> str:
    place = f"{name}:{problem.line}:{problem.column}: {text}"
    return f"{place} ({problem.hint})" if problem.hint else place
