"""Writes the expected manifests anew. Read the difference before you commit it."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

from support.operator_cases import CASES, built  # noqa: E402 - found by the line before

for case in CASES:
    (HERE / f"{case}.yaml").write_text(yaml.safe_dump_all(built(case), sort_keys=False))
