"""Names and resolvers that machines are told."""

from __future__ import annotations

import click

from warren_cli.asking import ask, show


@click.group()
def dns() -> None:
    """Names and resolvers that machines are told."""


@dns.command("show")
@click.option("--output", "-o", type=click.Choice(["json", "yaml"]), default="yaml", show_default=True)
@click.pass_context
def show_dns(context: click.Context, output: str) -> None:
    """Show the DNS settings; they are changed in the server's configuration."""
    show(ask(context, "GET", "/dns"), output, [], [])
