"""Pre-auth keys: what a machine joins with."""

from __future__ import annotations

from urllib.parse import quote

import click

from warren_cli.asking import OUTPUT, ask, seconds, show


@click.group()
def keys() -> None:
    """Pre-auth keys: what a machine joins with."""


@keys.command("create")
@click.option("--user", help="Whose machines those that join with it are; default: members.")
@click.option("--reusable", is_flag=True, help="Any number of machines may join with it.")
@click.option("--ephemeral", is_flag=True, help="Machines that join with it vanish when they go offline.")
@click.option("--expires", "expires", default="1h", show_default=True, help="Such as 30m, 12h, 7d.")
@click.option("--tag", "tags", multiple=True, help="Tag of the machines, such as tag:cluster.")
@click.option(
    "--approve-route",
    "routes",
    multiple=True,
    metavar="PREFIX",
    help="Routes inside PREFIX need no approval.",
)
@OUTPUT
@click.pass_context
def create_key(
    context: click.Context,
    user: str | None,
    reusable: bool,
    ephemeral: bool,
    expires: str,
    tags: tuple[str, ...],
    routes: tuple[str, ...],
    output: str,
) -> None:
    """Make a key and print it: it is shown this once."""
    answer = ask(
        context,
        "POST",
        "/keys",
        {
            "user": user,
            "reusable": reusable,
            "ephemeral": ephemeral,
            "expires_in_seconds": seconds(expires),
            "tags": list(tags),
            "approve_routes": list(routes),
        },
    )
    if output == "table":
        click.echo(answer["key"])
    else:
        show(answer, output, [], [])


@keys.command("list")
@OUTPUT
@click.pass_context
def list_keys(context: click.Context, output: str) -> None:
    """List the keys, without their secrets."""
    answer = ask(context, "GET", "/keys")
    columns = [
        ("ID", "id"),
        ("USER", "user"),
        ("REUSABLE", "reusable"),
        ("EPHEMERAL", "ephemeral"),
        ("EXPIRY", "expiry"),
        ("TAGS", "tags"),
    ]
    show(answer, output, answer["keys"], columns)


@keys.command("delete")
@click.argument("key_id")
@click.pass_context
def delete_key(context: click.Context, key_id: str) -> None:
    """Make a key unusable; machines that joined with it stay."""
    ask(context, "DELETE", f"/keys/{quote(key_id, safe='')}")
