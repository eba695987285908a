"""Programs of this machine that end by themselves."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from warren_lab.errors import LabError


def output_of(command: Sequence[str], *, folder: Path | None = None) -> str:
    """What it printed; `LabError` with its last words if it failed."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except OSError as error:
        raise LabError(f"cannot run {command[0]}: {error.strerror}") from error
    if answer.returncode != 0:
        words = (answer.stderr or answer.stdout).strip().splitlines() or [f"exit code {answer.returncode}"]
        raise LabError(f"{' '.join(command[:3])} failed: {words[-1]}")
    return answer.stdout
