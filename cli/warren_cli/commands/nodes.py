"""The machines of the mesh: list, approve, change, remove."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import click

from warren_cli.asking import OUTPUT, ask, names_of, node_id, seconds, show


@click.group()
def nodes() -> None:
    """The machines of the mesh."""


@nodes.command("list")
@click.option("--user", help="Only machines of this user.")
@click.option("--tag", help="Only machines with this tag.")
@click.option("--online/--offline", default=None, help="Only machines that are or are not connected.")
@OUTPUT
@click.pass_context
def list_nodes(
    context: click.Context, user: str | None, tag: str | None, online: bool | None, output: str
) -> None:
    """List the machines."""
    state = None if online is None else str(online).lower()
    wanted = {"user": user, "tag": tag, "online": state}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    answer = ask(context, "GET", f"/nodes?{query}" if query else "/nodes")
    rows = [
        {**node, "relay": (node.get("home_relay") or {}).get("code"), "routes": _routes(node)}
        for node in answer["nodes"]
    ]
    show(
        answer,
        output,
        rows,
        [
            ("ID", "id"),
            ("NAME", "name"),
            ("USER", "user"),
            ("ADDRESSES", "addresses"),
            ("ONLINE", "online"),
            ("RELAY", "relay"),
            ("ROUTES", "routes"),
            ("TAGS", "tags"),
            ("LAST SEEN", "last_seen"),
            ("EXPIRY", "expiry"),
        ],
    )


@nodes.command("rename")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("name")
@click.pass_context
def rename_node(context: click.Context, node: str, name: str) -> None:
    """Give NODE (name or id) another NAME."""
    ask(context, "PATCH", f"/nodes/{node_id(context, node)}", {"name": name})


@nodes.command("approve-routes")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("routes", nargs=-1, metavar="[ROUTE]...")
@click.pass_context
def approve_routes(context: click.Context, node: str, routes: tuple[str, ...]) -> None:
    """Let NODE serve exactly these ROUTEs; none at all takes every approval back."""
    ask(context, "PATCH", f"/nodes/{node_id(context, node)}", {"approved_routes": list(routes)})


@nodes.command("pending")
@OUTPUT
@click.pass_context
def list_pending(context: click.Context, output: str) -> None:
    """List the machines that wait for approval."""
    answer = ask(context, "GET", "/pending")
    columns = [
        ("ID", "id"),
        ("HOST NAME", "hostname"),
        ("OS", "os"),
        ("FROM", "source"),
        ("WANTS TAGS", "requested_tags"),
        ("EXPIRES", "expires"),
    ]
    show(answer, output, answer["pending"], columns)


@nodes.command("approve")
@click.argument("pending_id", metavar="ID")
@click.option("--user", help="Whose machine it is; default: members.")
@click.option("--tag", "tags", multiple=True, help="Its tags, instead of those it asks for; can be repeated.")
@click.option("--no-tags", is_flag=True, help="Give it none of the tags it asks for.")
@click.pass_context
def approve_node(
    context: click.Context, pending_id: str, user: str | None, tags: tuple[str, ...], no_tags: bool
) -> None:
    """Let the machine in whose login link ends in ID (the whole link does as well)."""
    wish: dict[str, Any] = {"user": user}
    if tags or no_tags:
        wish["tags"] = [] if no_tags else list(tags)
    answer = ask(context, "POST", f"/pending/{_pending_id(pending_id)}/approve", wish)
    click.echo(f"{answer['name']} joined with {', '.join(answer['addresses'])}")


@nodes.command("reject")
@click.argument("pending_id", metavar="ID")
@click.pass_context
def reject_node(context: click.Context, pending_id: str) -> None:
    """Refuse the machine whose login link ends in ID."""
    ask(context, "DELETE", f"/pending/{_pending_id(pending_id)}")


@nodes.command("show")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.option("--output", "-o", type=click.Choice(["json", "yaml"]), default="yaml", show_default=True)
@click.pass_context
def show_node(context: click.Context, node: str, output: str) -> None:
    """Show all that is known of NODE (name or id)."""
    show(ask(context, "GET", f"/nodes/{node_id(context, node)}"), output, [], [])


@nodes.command("expire")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.pass_context
def expire_node(context: click.Context, node: str) -> None:
    """Log NODE out now; its record stays for its next login."""
    ask(context, "POST", f"/nodes/{node_id(context, node)}/expire")


@nodes.command("set-expiry")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("when", metavar="WHEN")
@click.pass_context
def set_expiry(context: click.Context, node: str, when: str) -> None:
    """Make NODE log in again after WHEN, such as 90d from now; `never` switches expiry off for it."""
    expiry = None
    if when != "never":
        expiry = (datetime.now(UTC) + timedelta(seconds=seconds(when, "WHEN"))).isoformat()
    ask(context, "PATCH", f"/nodes/{node_id(context, node)}", {"expiry": expiry})


@nodes.command("set-addresses")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@click.pass_context
def set_addresses(context: click.Context, node: str, addresses: tuple[str, ...]) -> None:
    """Give NODE other ADDRESSes of the mesh: at most one of each family."""
    ask(context, "PATCH", f"/nodes/{node_id(context, node)}", {"addresses": list(addresses)})


@nodes.command("disable")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.pass_context
def disable_node(context: click.Context, node: str) -> None:
    """Cut NODE off from all others until it is enabled."""
    ask(context, "PATCH", f"/nodes/{node_id(context, node)}", {"disabled": True})


@nodes.command("enable")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.pass_context
def enable_node(context: click.Context, node: str) -> None:
    """Let NODE take part again."""
    ask(context, "PATCH", f"/nodes/{node_id(context, node)}", {"disabled": False})


@nodes.command("delete")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.pass_context
def delete_node(context: click.Context, node: str) -> None:
    """Remove NODE (name or id) from the mesh."""
    ask(context, "DELETE", f"/nodes/{node_id(context, node)}")


def _routes(node: Mapping[str, Any]) -> list[str]:
    """What it may serve, and what it offers and waits for."""
    approved = node["approved_routes"]
    return [
        *approved,
        *(f"{route} (offered)" for route in node["advertised_routes"] if route not in approved),
    ]


def _pending_id(text: str) -> str:
    return quote(text.rstrip("/").rpartition("/")[2], safe="")
