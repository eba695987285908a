"""Session rules: in CI a skipped test is a failure, because there everything can be had."""

from __future__ import annotations

import os

import hypothesis
import pytest

# How long an example takes says how busy the machine is. The gate judges the same commit alike each time;
# everybody else's runs look for new examples.
hypothesis.settings.register_profile("warren", deadline=None, derandomize=os.environ.get("CI") == "true")
hypothesis.settings.load_profile("warren")

_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        _skipped.append(f"{report.nodeid}: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and os.environ.get("CI") == "true":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _skipped:
        return
    verdict = "which fails the run in CI" if os.environ.get("CI") == "true" else "CI would fail here"
    terminalreporter.section(f"{len(_skipped)} skipped, {verdict}")
    for line in _skipped:
        terminalreporter.line(line)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests must not change what a test sees."""
    for name in [
        name for name in os.environ if name.startswith("WARREN_") and not name.startswith("WARREN_LAB_")
    ]:
        monkeypatch.delenv(name)
