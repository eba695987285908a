"""Where the installed programs begin: what is missing of an extra is said in one line.

Must not import a component: each is found by name when its program is run.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Final

EXIT_NOT_INSTALLED: Final = 2


@dataclass(frozen=True, slots=True)
class Program:
    """Its command is `main` of `module`; `extra` is what it has to be installed with."""

    name: str
    module: str
    extra: str


PROGRAMS: Final = {
    program.name: program
    for program in (
        Program("warren", "warren_cli.__main__", "cli"),
        Program("warren-control", "warren_control.__main__", "control"),
        Program("warren-relay", "warren_relay.__main__", "relay"),
        Program("warren-agent", "warren_agent.__main__", "agent"),
        Program("warren-operator", "warren_operator.__main__", "operator"),
        Program("warren-lab", "warren_lab.__main__", "lab"),
    )
}


def run(name: str) -> None:
    """Run a program, or end with exit code 2 and what to install."""
    program = PROGRAMS[name]
    try:
        main = importlib.import_module(program.module).main
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith("warren_") and missing != program.module.partition(".")[0]:
            raise
        sys.stderr.write(
            f"{name}: the package {missing} is not installed: pip install 'warren[{program.extra}]'\n"
        )
        sys.exit(EXIT_NOT_INSTALLED)
    main()


def warren() -> None:
    run("warren")


def control() -> None:
    run("warren-control")


def relay() -> None:
    run("warren-relay")


def agent() -> None:
    run("warren-agent")


def operator() -> None:
    run("warren-operator")


def lab() -> None:
    run("warren-lab")
