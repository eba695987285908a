"""Tokens of the admin API."""

from __future__ import annotations

from urllib.parse import quote

import click

from warren_cli.asking import OUTPUT, ask, seconds, show


@click.group()
def tokens() -> None:
    """Tokens of the admin API."""


@tokens.command("create")
@click.option("--scope", type=click.Choice(["admin", "read-only", "join-only"]), required=True)
@click.option("--name", default="", help="What it is for.")
@click.option("--expires", help="Such as 12h or 90d; default: never.")
@click.pass_context
def create_token(context: click.Context, scope: str, name: str, expires: str | None) -> None:
    """Make a token and print it: it is shown this once."""
    wish = {"scope": scope, "name": name}
    answer = ask(
        context, "POST", "/tokens", {**wish, "expires_in_seconds": seconds(expires)} if expires else wish
    )
    click.echo(answer["token"])


@tokens.command("list")
@OUTPUT
@click.pass_context
def list_tokens(context: click.Context, output: str) -> None:
    """List the tokens, without their secrets."""
    answer = ask(context, "GET", "/tokens")
    columns = [("ID", "id"), ("NAME", "name"), ("SCOPE", "scope"), ("EXPIRY", "expiry")]
    show(answer, output, answer["tokens"], columns)


@tokens.command("delete")
@click.argument("token_id")
@click.pass_context
def delete_token(context: click.Context, token_id: str) -> None:
    """Make a token unusable."""
    ask(context, "DELETE", f"/tokens/{quote(token_id, safe='')}")
