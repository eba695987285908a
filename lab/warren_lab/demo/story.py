"""How the demo talks: numbered steps, the real commands, what they printed, and what it took."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import Final

import click

INDENT: Final = "    "


class Story:
    """Prints to the terminal and keeps time."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._step = 0

    def step(self, title: str) -> None:
        self._step += 1
        click.echo()
        click.secho(f"[{time.monotonic() - self._began:5.1f} s] {self._step}. {title}", bold=True)

    def say(self, text: str) -> None:
        click.echo(INDENT + text)

    def command(self, where: str, arguments: Sequence[str], shown: str | None = None) -> None:
        """Show a command as a person would type it; `where` is the cluster or host it runs on."""
        click.secho(f"{INDENT}{where} $ {shown or shlex.join(arguments)}", fg="cyan")

    def output(self, text: str, limit: int = 40) -> None:
        lines = text.rstrip().splitlines()
        for line in lines[:limit]:
            click.echo(INDENT + "  " + line)
        if len(lines) > limit:
            click.echo(f"{INDENT}  … {len(lines) - limit} more lines")

    def good(self, text: str) -> None:
        click.secho(f"{INDENT}✓ {text}", fg="green")

    def bad(self, text: str) -> None:
        click.secho(f"{INDENT}✗ {text}", fg="red", err=True)
