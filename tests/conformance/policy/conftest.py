"""Prints how many recorded cases came out equal, and what the first difference of each other one is."""

from __future__ import annotations

import pytest

_NAME = "test_every_node_is_told_what_the_service_told_it"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = {
        outcome: [one for one in terminalreporter.stats.get(outcome, ()) if _NAME in one.nodeid]
        for outcome in ("passed", "failed")
    }
    if not any(reports.values()):
        return
    passed, failed = reports["passed"], reports["failed"]
    terminalreporter.section(f"policy cases: {len(passed)} passed, {len(failed)} failed")
    for report in failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = str(report.longrepr) if crash is None else crash.message
        terminalreporter.line(message.splitlines()[0].removeprefix("AssertionError: ")[:400])
