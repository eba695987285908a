"""What every command shares: asking the API, finding a machine by its name, showing the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click

from warren_cli import output, target
from warren_cli.client import ApiError, call

OUTPUT = click.option(
    "--output", "-o", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True
)
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Problem(click.ClickException):
    """What went wrong, in one line; scripts see exit code 1."""

    exit_code = 1


def ask(
    context: click.Context,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    try:
        return call(context.find_root().obj(), method, path, body, headers)
    except ApiError as error:
        raise Problem(str(error)) from error


def names_of(path: str, field: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Completion with the names of what the server has; silent where it cannot be asked."""

    def complete(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
        root = context.find_root()
        given = {name: root.params.get(name) for name in ("server", "token_file", "ca_file")}
        try:
            found = target.from_flags(given["server"], given["token_file"], given["ca_file"])
            listed = call(found, "GET", path)[field]
        except (ApiError, KeyError):
            return []
        return [each["name"] for each in listed if each["name"].startswith(begun)]

    return complete


def show(
    document: Any, form: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str]]
) -> None:
    output.show(document, form, rows, [(title, output.field(name)) for title, name in columns])


def node_id(context: click.Context, node: str) -> int:
    if node.isdecimal():
        return int(node)
    for known in ask(context, "GET", "/nodes")["nodes"]:
        if known["name"] == node:
            return int(known["id"])
    raise Problem(f"no machine is named {node!r}: see `warren nodes list`")


def seconds(text: str, what: str = "--expires") -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if not match:
        raise click.BadParameter("wants a number and a unit, such as 30m, 12h or 7d", param_hint=what)
    return int(match[1]) * UNITS[match[2]]
