"""Whether a text may become the policy in force. Pure; takes seconds for thousands of nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from warren_control.enforcement.enforcer import Enforcer
from warren_control.enforcement.network import users_of
from warren_control.errors import InvalidError
from warren_control.model import Snapshot
from warren_control.policy.acceptance import ambiguous_users, names_of
from warren_control.policy.document import Document, ReachTest, SshTest
from warren_control.policy.hujson import decode_text
from warren_control.policy.index import PolicyIndex
from warren_control.policy.live import LivePolicy
from warren_control.policy.load import load
from warren_control.policy.problems import PolicyError, Problem
from warren_control.policy.reach_tests import ReachTests
from warren_control.policy.ssh_tests import SshTests
from warren_control.relaymap import policy_relays

# Results that are told; what follows is counted as failed or passed all the same.
MAX_RESULTS: Final = 500


@dataclass(frozen=True, slots=True)
class TestResult:
    """One entry of `tests` or `sshTests`; one that fails has a result for each assertion that does."""

    line: int
    path: str
    passed: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found out about a text; `live` is ready to be put in force if nothing speaks against it."""

    live: LivePolicy | None
    problems: tuple[Problem, ...] = ()
    more_problems: int = 0
    warnings: tuple[Problem, ...] = ()
    tests: tuple[TestResult, ...] = ()

    @property
    def accepted(self) -> bool:
        return self.live is not None and not self.failed

    @property
    def failed(self) -> tuple[TestResult, ...]:
        return tuple(test for test in self.tests if not test.passed)

    @property
    def reasons(self) -> list[str]:
        """What is wrong, a line each."""
        return [str(problem) for problem in self.problems] + [
            f"line {test.line}: {test.path}: {test.message}" for test in self.failed
        ]


def examine(
    text: str | bytes, enforcer: Enforcer, snapshot: Snapshot, domains: frozenset[str]
) -> Examination:
    """Read a text, bind it to the nodes there are, run the tests in it."""
    try:
        document = load(text, domains)
    except PolicyError as error:
        return Examination(None, error.problems, error.more)
    problems = (*_relay_problems(document, decode_text(text)), *ambiguous_users(document, users_of(snapshot)))
    if problems:
        return Examination(None, problems, 0, document.warnings)
    live = enforcer.compile(document, snapshot)
    found = sorted(_results(live.index), key=lambda result: result.passed)
    tests = sorted(found[:MAX_RESULTS], key=lambda result: result.line)
    return Examination(live, (), 0, document.warnings, tuple(tests))


def _relay_problems(document: Document, text: str) -> Iterator[Problem]:
    try:
        policy_relays(document.derp_map)
    except InvalidError as error:
        before = text[: text.find('"derpMap"')]
        column = len(before) - (before.rfind("\n") + 1) + 1
        yield Problem(before.count("\n") + 1, column, "derpMap", str(error))


def _results(index: PolicyIndex) -> Iterator[TestResult]:
    document, names = index.document, names_of(index.document)
    reach = ReachTests(index.compiled, names)
    for test in document.tests:
        yield from _of(test, reach.failures((test,)))
    ssh = SshTests(index.compiled, index.ssh, names)
    for ssh_test in document.ssh_tests:
        yield from _of(ssh_test, ssh.failures((ssh_test,)))


def _of(test: ReachTest | SshTest, failures: Iterator[Problem]) -> Iterator[TestResult]:
    passed = True
    for failure in failures:
        passed = False
        hint = f" (expected {failure.expected})" if failure.expected else ""
        yield TestResult(failure.line, failure.where, False, failure.text + hint)
    if passed:
        yield TestResult(test.place.line, test.place.path, True)
