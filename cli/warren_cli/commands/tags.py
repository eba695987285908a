"""Tags: what machines are for."""

from __future__ import annotations

import click

from warren_cli.asking import OUTPUT, ask, names_of, node_id, show


@click.group()
def tags() -> None:
    """Tags: what machines are for."""


@tags.command("list")
@OUTPUT
@click.pass_context
def list_tags(context: click.Context, output: str) -> None:
    """List the tags in use and the machines that have them."""
    found: dict[str, list[str]] = {}
    for node in ask(context, "GET", "/nodes")["nodes"]:
        for tag in node["tags"]:
            found.setdefault(tag, []).append(node["name"])
    rows = [{"tag": tag, "nodes": members} for tag, members in sorted(found.items())]
    show({"tags": rows}, output, rows, [("TAG", "tag"), ("MACHINES", "nodes")])


@tags.command("set")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("wanted", nargs=-1, metavar="[TAG]...")
@click.pass_context
def set_tags(context: click.Context, node: str, wanted: tuple[str, ...]) -> None:
    """Give NODE exactly these TAGs, such as tag:web; none at all returns it to its user."""
    ask(context, "PATCH", f"/nodes/{node_id(context, node)}", {"tags": list(wanted)})
