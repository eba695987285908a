"""What `/api/v1/policy` answers."""

from __future__ import annotations

from datetime import datetime

import msgspec

from warren_control.policies.examination import Examination, TestResult
from warren_control.policies.versions import PolicyVersion, Source
from warren_control.policy.problems import Problem


class ProblemShown(msgspec.Struct):
    """What is wrong in a policy, and where."""

    line: int
    column: int
    path: str
    message: str
    hint: str


class Examined(msgspec.Struct):
    """What was found in a policy."""

    problems: tuple[ProblemShown, ...]
    warnings: tuple[ProblemShown, ...]
    tests: tuple[TestResult, ...]


class Checked(Examined, kw_only=True):
    """What was found in a policy, and whether it would be accepted."""

    ok: bool


class Current(msgspec.Struct):
    """The policy in force."""

    version: int
    text: str
    source: Source
    author: str
    created: datetime | None
    comment: str
    warnings: tuple[ProblemShown, ...]
    alarm: str
    managed_by: str


class Listed(msgspec.Struct):
    """An accepted policy, now or before."""

    version: int
    created: datetime
    author: str
    source: Source
    comment: str
    accepted: bool


class Former(Listed, kw_only=True):
    """An accepted policy with its text."""

    text: str


class History(msgspec.Struct):
    """A page of accepted policies."""

    items: tuple[Listed, ...]


class Reachers(msgspec.Struct, omit_defaults=True):
    """The answer to who reaches: one of both, as it was asked."""

    sources: tuple[str, ...] | None = None
    destinations: tuple[str, ...] | None = None


def shown(found: Problem) -> ProblemShown:
    """A problem as the API gives it."""
    return ProblemShown(found.line, found.column, found.where, found.text, found.hint)


def examined(
    found: Examination,
) -> tuple[tuple[ProblemShown, ...], tuple[ProblemShown, ...], tuple[TestResult, ...]]:
    """The fields of `Examined`."""
    problems, warnings = (tuple(shown(one) for one in part) for part in (found.problems, found.warnings))
    return problems, warnings, found.tests


def listed(version: PolicyVersion) -> tuple[int, datetime, str, Source, str, bool]:
    """The fields of `Listed`."""
    return version.version, version.created, version.author, version.source, version.comment, True
