"""Prints answers as a table for people, or as JSON or YAML for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

Column = tuple[str, Callable[[Mapping[str, Any]], str]]


def show(document: Any, output: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    """Print `document` whole as JSON or YAML, or `rows` as a table of `columns`."""
    match output:
        case "json":
            click.echo(json.dumps(document, indent=2))
        case "yaml":
            click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)
        case _:
            _table(rows, columns)


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, _ in columns:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*[render(row) for _, render in columns])
    # A pipe gets whole lines; only a terminal is folded to its width.
    console = Console()
    Console(width=console.width if console.is_terminal else 400).print(table)


def field(name: str) -> Callable[[Mapping[str, Any]], str]:
    """A column that shows one field; lists are joined, nothing is shown as a dash."""

    def render(row: Mapping[str, Any]) -> str:
        value = row.get(name)
        match value:
            case None | "" | []:
                return "-"
            case bool():
                return "yes" if value else "no"
            case list():
                return ", ".join(str(item) for item in value)
            case _:
                return str(value)

    return render
