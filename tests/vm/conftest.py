"""In the virtual machine each result becomes a line of JSON on the second serial port."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

RESULTS = os.environ.get("WARREN_LAB_VM_RESULTS")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if RESULTS is None or (report.when != "call" and report.passed):
        return
    line = {
        "name": report.nodeid.rpartition("/")[2],
        "outcome": report.outcome,
        "seconds": round(report.duration, 1),
        "text": report.longreprtext[-6000:],
        "figures": dict(report.user_properties),
    }
    with Path(RESULTS).open("a") as stream:
        stream.write(json.dumps(line) + "\n")
