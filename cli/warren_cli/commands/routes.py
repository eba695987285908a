"""Networks behind machines, and exit nodes."""

from __future__ import annotations

import click

from warren_cli.asking import OUTPUT, ask, names_of, node_id, show


@click.group()
def routes() -> None:
    """Networks behind machines, and exit nodes."""


@routes.command("list")
@OUTPUT
@click.pass_context
def list_routes(context: click.Context, output: str) -> None:
    """List every route that a machine offers or was approved for."""
    rows = [
        {
            "route": route,
            "node": node["name"],
            "offered": route in node["advertised_routes"],
            "approved": route in node["approved_routes"],
            "serving": route in node["primary_routes"],
        }
        for node in ask(context, "GET", "/nodes")["nodes"]
        for route in dict.fromkeys((*node["advertised_routes"], *node["approved_routes"]))
    ]
    columns = [(name.upper(), name) for name in ("route", "node", "offered", "approved", "serving")]
    show({"routes": rows}, output, rows, columns)


@routes.command("approve")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("wanted", nargs=-1, metavar="[ROUTE]...")
@click.pass_context
def approve_more(context: click.Context, node: str, wanted: tuple[str, ...]) -> None:
    """Let NODE serve these ROUTEs as well; without any, all that it offers."""
    known = ask(context, "GET", f"/nodes/{node_id(context, node)}")
    added = wanted or known["advertised_routes"]
    approved = list(dict.fromkeys((*known["approved_routes"], *added)))
    ask(context, "PATCH", f"/nodes/{known['id']}", {"approved_routes": approved})


@routes.command("revoke")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("unwanted", nargs=-1, required=True, metavar="ROUTE...")
@click.pass_context
def revoke_routes(context: click.Context, node: str, unwanted: tuple[str, ...]) -> None:
    """Take the approval of these ROUTEs back from NODE."""
    known = ask(context, "GET", f"/nodes/{node_id(context, node)}")
    approved = [route for route in known["approved_routes"] if route not in unwanted]
    ask(context, "PATCH", f"/nodes/{known['id']}", {"approved_routes": approved})
