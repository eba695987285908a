"""The agent with the real WireGuard module, in a small virtual machine.

The tests themselves are in the files `guest_*.py` beside this one and run inside. Here the machine is booted
once, and each result is told under its own name.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from warren_lab import preflight
from warren_lab.patience import VARIABLE
from warren_lab.vm import ensure_image, run

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# The machine is emulated, and others may want the processors that do it.
PATIENCE = 10
LIMIT_SECONDS = 1800.0
pytestmark = [pytest.mark.vm, pytest.mark.timeout(LIMIT_SECONDS + 60)]

FOLDERS = ("wire", "runtime", "node-agent", "control-server", "lab", "tests/support", "tests/vm")
COMMAND = (
    "export WARREN_LAB_VM_RESULTS=/dev/ttyS1 PYTHONPATH=$PYTHONPATH:/opt/warren/tests\n"
    f"export {VARIABLE}={PATIENCE}\n"
    "python3 -m pytest -c /dev/null --rootdir /opt/warren/tests -p no:cacheprovider --import-mode importlib"
    " -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function -o filterwarnings=error"
    " -o python_files='guest_*.py' -o timeout=600 -q --tb=short /opt/warren/tests/vm\n"
)


def guest_tests() -> list[str]:
    return [
        f"{file.name}::{item.name}"
        for file in sorted(HERE.glob("guest_*.py"))
        for item in ast.parse(file.read_text()).body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name.startswith("test_")
    ]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each test said in the guest, by its name."""
    problems = preflight.check({"network", "vm"})
    if problems:
        pytest.skip("; ".join(map(str, problems)))
    finished = run(
        ensure_image(print),
        {ROOT / name: name for name in FOLDERS},
        COMMAND,
        logs=tmp_path_factory.mktemp("vm"),
        timeout_seconds=LIMIT_SECONDS,
    )
    found = [json.loads(line) for line in finished.results if line.startswith("{")]
    if not found:
        pytest.fail(f"no test ran in the virtual machine; its console:\n{finished.console[-6000:]}")
    # A failed clean-up comes after a passed call, and other cases of the same test after a failed one.
    failed = {base_name(line): line for line in found if line["outcome"] == "failed"}
    return {base_name(line): line for line in found} | failed


def base_name(line: Mapping[str, Any]) -> str:
    """A test with all its cases has one name here."""
    return str(line["name"]).partition("[")[0]


@pytest.mark.parametrize("name", guest_tests())
def test_in_the_virtual_machine(name: str, results: dict[str, Any]) -> None:
    assert name in results, "the machine ended before this test; the ones before it tell why"
    result = results[name]
    for figure, value in result["figures"].items():
        sys.stdout.write(f"{figure}: {value}\n")
    assert result["outcome"] == "passed", result["text"]
