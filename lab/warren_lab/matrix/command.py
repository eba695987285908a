"""`warren-lab matrix`: measures, says how far it is, shows the tables."""

from __future__ import annotations

import json
import sys
import time
from typing import Final

import click
from rich.console import Console

from warren_lab import preflight, tools
from warren_lab.errors import LabError
from warren_lab.matrix import cells as planned
from warren_lab.matrix import show
from warren_lab.matrix.kinds import KINDS
from warren_lab.matrix.measure import GROUPS, measure
from warren_lab.matrix.results import Report
from warren_lab.tools import Printer

NEEDS: Final = ("network", "nat")


@click.command()
@click.option(
    "--pairs",
    default=",".join(map(str, planned.PAIRS)),
    show_default=True,
    help="Whose program is near and whose is far. stock-stock is the yardstick of the others.",
)
@click.option("--nats", default=",".join(KINDS), show_default=True, help="How nodes are attached.")
@click.option(
    "--only",
    "only",
    multiple=True,
    metavar="CELL",
    help="Only this cell: easy/hard for all --pairs, or ours-stock:easy/hard. Repeat it for more.",
)
@click.option(
    "--output",
    type=click.Choice(("table", "json", "markdown")),
    default="table",
    show_default=True,
    help="What is printed at the end.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --output json.")
@click.option(
    "--side-by-side",
    "width",
    type=click.IntRange(1, 32),
    default=8,
    show_default=True,
    help="Cells measured at the same time.",
)
def matrix(pairs: str, nats: str, only: tuple[str, ...], output: str, as_json: bool, width: int) -> None:
    """Measure every kind of NAT against every other, with our agent and with stock tailscaled.

    Says for each cell which path physics allows, which one was found, and after how long. Exit code 1 if one
    of ours is worse than possible, or than stock against stock in the same run; 2 if this machine cannot run
    it.
    """
    chosen = planned.pairs_named(pairs)
    wanted = planned.cells_named(only, chosen) or planned.cells(chosen, planned.kinds_named(nats))
    if problems := preflight.ensure(NEEDS):
        raise LabError("; ".join(map(str, problems)))
    toolbox = tools.ensure(GROUPS, Printer())
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"[{time.monotonic() - began:5.0f} s] {text}", err=True)

    results = []
    for result in measure(wanted, toolbox, width=width, say=say):
        results.append(result)
        say(f"{len(results)}/{len(wanted)} {show.line(result)}")
    report = Report(tuple(sorted(results, key=lambda result: wanted.index(result.cell))))
    _print(report, "json" if as_json else output)
    if not report.good:
        sys.exit(1)


def _print(report: Report, output: str) -> None:
    match output:
        case "json":
            click.echo(json.dumps(report.document(), indent=2))
        case "markdown":
            click.echo(show.markdown(report))
        case _:
            show.tables(report, Console(width=None if sys.stdout.isatty() else show.FILE_WIDTH))
    if output != "table":
        for complaint in show.complaints(report):
            click.echo(f"! {complaint}", err=True)
