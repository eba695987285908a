"""One setting stretches every limit of the lab."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("setting", "limit"), [(None, "30.0"), ("", "30.0"), ("10", "300.0"), ("0.5", "15.0")]
)
def test_limits_are_stretched_by_the_setting(setting: str | None, limit: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "WARREN_LAB_PATIENCE"}
    if setting is not None:
        environment["WARREN_LAB_PATIENCE"] = setting
    program = "from warren_lab.patience import patient; print(patient(30.0))"
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == limit
