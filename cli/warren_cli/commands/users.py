"""The people who own machines and keys."""

from __future__ import annotations

from urllib.parse import quote

import click

from warren_cli.asking import OUTPUT, ask, show


@click.group()
def users() -> None:
    """The people who own machines and keys."""


ROLE = click.Choice(["owner", "admin", "network-admin", "it-admin", "billing-admin", "auditor"])


@users.command("list")
@OUTPUT
@click.pass_context
def list_users(context: click.Context, output: str) -> None:
    """List the users."""
    answer = ask(context, "GET", "/users")
    columns = [
        ("ID", "id"),
        ("NAME", "name"),
        ("DISPLAY NAME", "display_name"),
        ("EMAIL", "email"),
        ("ROLES", "roles"),
        ("MACHINES", "nodes"),
    ]
    show(answer, output, answer["users"], columns)


@users.command("create")
@click.argument("name")
@click.option("--display-name", default="", help="What clients show beside the name.")
@click.pass_context
def create_user(context: click.Context, name: str, display_name: str) -> None:
    """Make a user called NAME, such as ops or ops@example.net."""
    ask(context, "POST", "/users", {"name": name, "display_name": display_name})


@users.command("set-email")
@click.argument("user")
@click.argument("email")
@click.pass_context
def set_email(context: click.Context, user: str, email: str) -> None:
    """Give USER (name or id) the address that a policy names them by; "" takes it away."""
    ask(context, "PATCH", f"/users/{quote(user, safe='')}", {"email": email})


@users.command("set-roles")
@click.argument("user")
@click.argument("roles", nargs=-1, type=ROLE, metavar="[ROLE]...")
@click.pass_context
def set_roles(context: click.Context, user: str, roles: tuple[str, ...]) -> None:
    """Give USER exactly these ROLEs for `autogroup:` of a policy; none at all makes a plain member.

    Roles: owner, admin, network-admin, it-admin, billing-admin, auditor.
    """
    ask(context, "PATCH", f"/users/{quote(user, safe='')}", {"roles": list(roles)})


@users.command("rename")
@click.argument("user")
@click.argument("name")
@click.pass_context
def rename_user(context: click.Context, user: str, name: str) -> None:
    """Give USER (name or id) another NAME."""
    ask(context, "PATCH", f"/users/{quote(user, safe='')}", {"name": name})


@users.command("delete")
@click.argument("user")
@click.pass_context
def delete_user(context: click.Context, user: str) -> None:
    """Remove USER and its keys; one who still owns machines stays."""
    ask(context, "DELETE", f"/users/{quote(user, safe='')}")
