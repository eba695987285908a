"""Every command of ours that a document shows exists and takes these arguments."""

from __future__ import annotations

import configparser
import importlib
import itertools
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from support.doc_tables import DOCS, ROOT, blocks
from warren_runtime.programs import PROGRAMS

SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
ENDS = {"&", "&&", "|", ">", ";"}
STARTS = {"&&", "|", ";", "--"}
"""What a command stands behind, where it is not the first word: `kubectl exec … -- warren-agent status`."""


def programs() -> dict[str, click.Command]:
    found = {}
    for name in SCRIPTS:
        module = importlib.import_module(PROGRAMS[name].module)
        found[name] = module.lab if name == "warren-lab" else module.main
    return found


COMMANDS_OF = programs()


def shown() -> Iterator[tuple[str, str]]:
    """Document and command line of what is typed in consoles and started by units."""
    for document in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        for block in blocks(document, "console"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("$ "):
                    yield document.name, line.removeprefix("$ ")
        for block in blocks(document, "ini"):
            unit = configparser.ConfigParser(strict=False, interpolation=None)
            unit.read_string(block)
            yield document.name, unit["Service"]["ExecStart"]


def ours(line: str) -> tuple[str, list[str]] | None:
    """The program and its arguments, if one of ours runs on this line."""
    if not any(name in line for name in SCRIPTS):
        return None
    words = shlex.split(line, comments=True)
    for position, word in enumerate(words):
        if Path(word).name in SCRIPTS and (position == 0 or words[position - 1] in STARTS):
            rest = words[position + 1 :]
            return Path(word).name, list(itertools.takewhile(lambda each: each not in ENDS, rest))
    return None


COMMANDS = [(document, *found) for document, line in shown() if (found := ours(line)) is not None]


def test_there_are_commands_to_look_at() -> None:
    assert {"README.md", "install.md", "standalone.md"} <= {document for document, _, _ in COMMANDS}


@pytest.mark.parametrize(("document", "program", "arguments"), COMMANDS)
def test_a_shown_command_is_understood(document: str, program: str, arguments: list[str]) -> None:
    command, name, rest = COMMANDS_OF[program], program, arguments
    while True:
        context = command.make_context(name, list(rest))
        if not isinstance(command, click.Group):
            return
        found_name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        assert found_name is not None
        command, name = found, found_name
