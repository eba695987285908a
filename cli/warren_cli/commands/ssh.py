"""SSH connections that the policy holds until somebody approves them."""

from __future__ import annotations

from urllib.parse import quote

import click

from warren_cli.asking import OUTPUT, ask, show


@click.group()
def ssh() -> None:
    """SSH connections that wait for approval."""


@ssh.command("checks")
@OUTPUT
@click.pass_context
def list_checks(context: click.Context, output: str) -> None:
    """List the connections that wait."""
    answer = ask(context, "GET", "/ssh/checks")
    columns = [
        ("ID", "id"),
        ("USER", "user"),
        ("FROM", "source"),
        ("TO", "destination"),
        ("AS", "login"),
        ("EXPIRES", "expires"),
    ]
    show(answer, output, answer["checks"], columns)


@ssh.command("approve")
@click.argument("check_id", metavar="ID")
@click.pass_context
def approve(context: click.Context, check_id: str) -> None:
    """Let the connection whose link ends in ID through (the whole link does as well)."""
    _decide(context, check_id, "approve")


@ssh.command("deny")
@click.argument("check_id", metavar="ID")
@click.pass_context
def deny(context: click.Context, check_id: str) -> None:
    """Refuse the connection whose link ends in ID."""
    _decide(context, check_id, "deny")


def _decide(context: click.Context, check_id: str, verdict: str) -> None:
    number = quote(check_id.rstrip("/").rpartition("/")[2], safe="")
    answer = ask(context, "POST", f"/ssh/checks/{number}/{verdict}")
    click.echo(
        f"{answer['verdict']}: {answer['user']} from {answer['source']}"
        f" to {answer['destination']} as {answer['login']}"
    )
