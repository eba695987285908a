"""Commands about the lab's programs: build them, say where one is, remove them."""

from __future__ import annotations

import click

from warren_lab.errors import LabError
from warren_lab.tools import DEFAULT_GROUPS, GROUPS, Printer, cache, ensure
from warren_lab.tools.catalog import groups_of


@click.group(invoke_without_command=True)
@click.pass_context
def tools(context: click.Context) -> None:
    """Build the real programs that the lab runs, pinned in lab/tools."""
    if context.invoked_subcommand is None:
        context.invoke(build)


@tools.command()
@click.argument("groups", nargs=-1, type=click.Choice(sorted(GROUPS)))
def build(groups: tuple[str, ...] = ()) -> None:
    """Build GROUPS (default: what the demo needs), or find them in the cache."""
    toolbox = ensure(groups or DEFAULT_GROUPS, Printer())
    for name, path in sorted(toolbox.programs.items()):
        click.echo(f"{name}\t{path}")


@tools.command()
@click.argument("name")
def path(name: str) -> None:
    """Print where program NAME is; builds it first if it must."""
    groups = groups_of(name)
    if not groups:
        raise LabError(f"no group of the lab holds {name}")
    click.echo(ensure(groups[:1], Printer()).path(name))


@tools.command()
def clean() -> None:
    """Remove every cached program and image."""
    click.echo(f"freed {cache.clear() // 1_000_000} MB")
