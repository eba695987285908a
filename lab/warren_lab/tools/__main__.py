"""``python -m warren_lab.tools``: the commands about programs alone."""

from __future__ import annotations

import sys

import click

from warren_lab.errors import LabError
from warren_lab.tools.commands import tools


def main() -> None:
    """Run with one line and exit code 2 where the user can fix it."""
    try:
        tools(prog_name="python -m warren_lab.tools")
    except LabError as error:
        click.echo(f"warren-lab: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
