"""docs/configuration.md names every setting there is, and the defaults that hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import warren_agent.__main__ as agent_program
import warren_cli.__main__ as people_program
import warren_control.__main__ as control_program
import warren_relay.__main__ as relay_program
from support.asked import Asked, with_value, without
from support.doc_tables import DOCS, Table, blocks, given, table, value
from warren_agent import config as agent
from warren_control import config as control
from warren_operator.config import OperatorConfig
from warren_operator.errors import ConfigError
from warren_relay import config as relay
from warren_runtime.settings import SettingsError

DOCUMENT = "configuration.md"
URL = "https://203.0.113.10"

CONTROL = table(DOCUMENT, "setting", "## warren-control")
RELAY = table(DOCUMENT, "setting", "## warren-relay")
AGENT = table(DOCUMENT, "setting", "## warren-agent")
OPERATOR = table(DOCUMENT, "variable", "## warren-operator")

SMALLEST: dict[str, dict[str, Any]] = {
    "control": {"server_url": URL, "relay": {"enabled": True}, "bootstrap_keys": [{"secret_file": "/key"}]},
    "relay": {"admission": {"verify_url": f"{URL}/verify"}},
    "agent": {"server_url": URL},
}
"""What is required, and what makes the other defaults count."""


def parse_agent(values: dict[str, Any]) -> agent.Config:
    return agent.parse(values, "nas")


PARSERS: dict[str, tuple[Table, Callable[[dict[str, Any]], Any]]] = {
    "control": (CONTROL, control.parse),
    "relay": (RELAY, relay.parse),
    "agent": (AGENT, parse_agent),
}


@pytest.mark.parametrize("program", PARSERS)
def test_every_setting_is_in_the_table_and_no_other(program: str) -> None:
    documented, parse = PARSERS[program]
    found: set[str] = set()
    with pytest.raises(SettingsError):
        parse(Asked(documented.names, found))
    assert found == documented.names


@pytest.mark.parametrize(
    ("program", "setting"),
    [
        (program, setting)
        for program, (documented, _) in PARSERS.items()
        for setting, default in documented.column("default").items()
        if given(default)
    ],
)
def test_a_documented_default_is_what_leaving_the_setting_out_means(program: str, setting: str) -> None:
    documented, parse = PARSERS[program]
    left_out = without(SMALLEST[program], setting)
    default = value(documented.column("default")[setting])
    assert parse(left_out) == parse(with_value(left_out, setting, default))


def test_the_variables_of_the_control_server_are_marked() -> None:
    marked = {name for name, mark in CONTROL.column("variable").items() if mark == "yes"}
    assert marked == set(control._ENVIRONMENT_FIELDS)


def test_every_setting_of_relay_and_agent_is_a_variable() -> None:
    assert set(relay.FIELDS) == RELAY.names
    assert set(agent.FIELDS) == AGENT.names


def flags(command: click.Command) -> set[str]:
    return {param.opts[0] for param in command.params}


def test_the_flags_are_those_of_the_programs() -> None:
    documented = table(DOCUMENT, "flag of `serve`", "## warren-control").names
    assert flags(control_program.serve) == documented
    assert flags(relay_program.serve) == {
        "--config",
        *("--" + name.replace(".", "-").replace("_", "-") for name in RELAY.names),
    }
    of_agent = {flag for cell in AGENT.column("flag").values() if (flag := given(cell))}
    assert flags(agent_program.up) == {"--config", "--log-level", *of_agent}


def test_the_options_of_the_command_for_people_are_variables() -> None:
    documented = table(DOCUMENT, "option", "## warren")
    named = {option: given(cell) for option, cell in documented.column("variable").items()}
    prefix = people_program.main.context_settings["auto_envvar_prefix"]
    options = flags(people_program.main) - {"--version"}
    assert named == {
        option: f"{prefix}_{option.removeprefix('--').replace('-', '_').upper()}" for option in options
    }


def test_the_variables_of_the_operator_are_in_the_table() -> None:
    found: set[str] = set()
    with pytest.raises(ConfigError):
        OperatorConfig.from_environ(Asked((), found))
    assert found == OPERATOR.names


def test_the_defaults_of_the_operator_hold() -> None:
    images = {f"WARREN_IMAGE_{part}": "image" for part in ("CONTROL", "RELAY", "AGENT")}
    given_too = {name: str(given(cell)) for name, cell in OPERATOR.column("default").items() if given(cell)}
    assert OperatorConfig.from_environ(images) == OperatorConfig.from_environ(images | given_too)


def examples(document: str) -> list[tuple[str, dict[str, Any]]]:
    """Whole files of a document: a block of YAML whose first line says where the file goes."""
    found = []
    for text in blocks(DOCS / document, "yaml"):
        first = text.splitlines()[0]
        if first.startswith("# /etc/warren/"):
            found.append((Path(first.removeprefix("# ")).stem, yaml.safe_load(text)))
    return found


@pytest.mark.parametrize(("program", "settings"), examples("standalone.md"))
def test_the_files_of_the_guides_are_accepted(program: str, settings: dict[str, Any]) -> None:
    _, parse = PARSERS[program]
    parse(settings)
