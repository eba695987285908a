"""`warren-lab prepare`: everything that takes minutes once, so that tests and demo find it there."""

from __future__ import annotations

import click

from warren_lab import images, preflight, tools
from warren_lab.errors import LabError
from warren_lab.images import PRODUCTS, SYSTEM
from warren_lab.tools import GROUPS, Printer


@click.command()
@click.option(
    "--no-install", is_flag=True, help="Do not install missing Debian packages; name them and stop."
)
def prepare(no_install: bool) -> None:
    """Install the Debian packages, build the pinned programs and all images of demo, tests and benchmarks."""
    problems = preflight.ensure(preflight.NEEDS, install=not no_install)
    if problems:
        raise LabError("; ".join(str(problem) for problem in problems))
    toolbox = tools.ensure(tuple(GROUPS), Printer())
    images.ensure((*SYSTEM, *PRODUCTS), toolbox=toolbox, say=click.echo)
