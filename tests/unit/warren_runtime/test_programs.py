"""The installed programs: each begins, and says what to install where an extra is missing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from warren_runtime import programs

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
NEEDS = {
    "warren-control": "sqlalchemy",
    "warren-agent": "pyroute2",
    "warren-operator": "kopf",
    "warren-lab": "pyroute2",
}
"""A package that only the extra of a program brings."""

# The package is there in the tests, so it is hidden from the interpreter.
WITHOUT = """
import sys
sys.modules[{package!r}] = None
sys.argv = [{name!r}, "--help"]
from {module} import {call}
{call}()
"""


def started(name: str, package: str) -> subprocess.CompletedProcess[str]:
    module, _, call = PROJECT["scripts"][name].partition(":")
    code = WITHOUT.format(package=package, name=name, module=module, call=call)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_every_program_has_its_extra() -> None:
    assert programs.PROGRAMS.keys() == PROJECT["scripts"].keys()
    assert {program.extra for program in programs.PROGRAMS.values()} <= PROJECT[
        "optional-dependencies"
    ].keys()


@pytest.mark.parametrize("name", PROJECT["scripts"])
def test_a_program_that_has_all_it_needs_begins(name: str) -> None:
    done = started(name, "a_package_that_nobody_needs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


@pytest.mark.parametrize("name", NEEDS)
def test_a_missing_extra_is_named_in_one_line(name: str) -> None:
    done = started(name, NEEDS[name])
    assert done.returncode == programs.EXIT_NOT_INSTALLED
    extra = programs.PROGRAMS[name].extra
    assert (
        done.stderr == f"{name}: the package {NEEDS[name]} is not installed: pip install 'warren[{extra}]'\n"
    )
