"""`warren`: the command for people. Asks a control server's API and prints what it says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from warren_wire import __version__

from . import output, target
from .client import ApiError, Target, call

OUTPUT = click.option(
    "--output", "-o", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True
)
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Problem(click.ClickException):
    """What went wrong, in one line; scripts see exit code 1."""

    exit_code = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "WARREN"})
@click.version_option(__version__)
@click.option("--server", metavar="URL", help="The control server, such as https://control.example.net.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File with a token of its admin API.")
@click.option(
    "--ca-file", type=click.Path(path_type=Path), help="CA of its certificate, if it is a private one."
)
@click.option(
    "--mesh", metavar="NAMESPACE/NAME", help="Take server, token and CA from this Mesh, through kubectl."
)
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="The kubeconfig for --mesh.")
@click.pass_context
def main(
    context: click.Context,
    server: str | None,
    token_file: Path | None,
    ca_file: Path | None,
    mesh: str | None,
    kubeconfig: Path | None,
) -> None:
    """Look after a Warren mesh: its nodes, keys and relays.

    Every option can come from the environment: WARREN_SERVER, WARREN_TOKEN_FILE, WARREN_CA_FILE, WARREN_MESH.
    """

    def find() -> Target:
        try:
            if mesh:
                return target.from_mesh(mesh, kubeconfig)
            return target.from_flags(server, token_file, ca_file)
        except ApiError as error:
            raise Problem(str(error)) from error

    context.obj = find


def ask(context: click.Context, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    try:
        return call(context.find_root().obj(), method, path, body)
    except ApiError as error:
        raise Problem(str(error)) from error


@main.command()
@OUTPUT
@click.pass_context
def status(context: click.Context, output: str) -> None:
    """Show how the control server is and how many machines are there."""
    answer = ask(context, "GET", "/status")
    rows = [
        {"field": name, "value": value}
        for name, value in answer.items()
        if not isinstance(value, (dict, list))
    ]
    _show(answer, output, rows, [("FIELD", "field"), ("VALUE", "value")])


@main.group()
def nodes() -> None:
    """The machines of the mesh."""


@nodes.command("list")
@OUTPUT
@click.pass_context
def list_nodes(context: click.Context, output: str) -> None:
    """List every machine."""
    answer = ask(context, "GET", "/nodes")
    rows = [{**node, "relay": (node.get("home_relay") or {}).get("code")} for node in answer["nodes"]]
    _show(
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
            ("ROUTES", "approved_routes"),
            ("TAGS", "tags"),
            ("LAST SEEN", "last_seen"),
        ],
    )


@nodes.command("rename")
@click.argument("node")
@click.argument("name")
@click.pass_context
def rename_node(context: click.Context, node: str, name: str) -> None:
    """Give NODE (name or id) another NAME."""
    ask(context, "PATCH", f"/nodes/{_node_id(context, node)}", {"name": name})


@nodes.command("approve-routes")
@click.argument("node")
@click.argument("routes", nargs=-1, metavar="[ROUTE]...")
@click.pass_context
def approve_routes(context: click.Context, node: str, routes: tuple[str, ...]) -> None:
    """Let NODE serve exactly these ROUTEs; none at all takes every approval back."""
    ask(context, "PATCH", f"/nodes/{_node_id(context, node)}", {"approved_routes": list(routes)})


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
    _show(answer, output, answer["pending"], columns)


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


@nodes.command("delete")
@click.argument("node")
@click.pass_context
def delete_node(context: click.Context, node: str) -> None:
    """Remove NODE (name or id) from the mesh."""
    ask(context, "DELETE", f"/nodes/{_node_id(context, node)}")


@main.group()
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
            "expires_in_seconds": _seconds(expires),
            "tags": list(tags),
            "approve_routes": list(routes),
        },
    )
    if output == "table":
        click.echo(answer["key"])
    else:
        _show(answer, output, [], [])


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
    _show(answer, output, answer["keys"], columns)


@keys.command("delete")
@click.argument("key_id")
@click.pass_context
def delete_key(context: click.Context, key_id: str) -> None:
    """Make a key unusable; machines that joined with it stay."""
    ask(context, "DELETE", f"/keys/{quote(key_id, safe='')}")


@main.group()
def users() -> None:
    """The people who own machines and keys."""


@users.command("list")
@OUTPUT
@click.pass_context
def list_users(context: click.Context, output: str) -> None:
    """List the users."""
    answer = ask(context, "GET", "/users")
    columns = [("ID", "id"), ("NAME", "name"), ("DISPLAY NAME", "display_name"), ("MACHINES", "nodes")]
    _show(answer, output, answer["users"], columns)


@users.command("create")
@click.argument("name")
@click.option("--display-name", default="", help="What clients show beside the name.")
@click.pass_context
def create_user(context: click.Context, name: str, display_name: str) -> None:
    """Make a user called NAME, such as alice or alice@example.net."""
    ask(context, "POST", "/users", {"name": name, "display_name": display_name})


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


@main.group()
def relays() -> None:
    """The relay regions."""


@relays.command("list")
@OUTPUT
@click.pass_context
def list_relays(context: click.Context, output: str) -> None:
    """List the relay regions of the mesh."""
    answer = ask(context, "GET", "/relays")
    rows = [
        {
            "id": region["RegionID"],
            "code": region["RegionCode"],
            "name": region.get("RegionName"),
            "hosts": [node["HostName"] for node in region.get("Nodes") or []],
        }
        for region in answer["relays"]
    ]
    _show(answer, output, rows, [("ID", "id"), ("CODE", "code"), ("NAME", "name"), ("HOSTS", "hosts")])


def _show(
    document: Any, form: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str]]
) -> None:
    output.show(document, form, rows, [(title, output.field(name)) for title, name in columns])


def _node_id(context: click.Context, node: str) -> int:
    if node.isdecimal():
        return int(node)
    for known in ask(context, "GET", "/nodes")["nodes"]:
        if known["name"] == node:
            return int(known["id"])
    raise Problem(f"no machine is named {node!r}: see `warren nodes list`")


def _pending_id(text: str) -> str:
    return quote(text.rstrip("/").rpartition("/")[2], safe="")


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if not match:
        raise click.BadParameter("wants a number and a unit, such as 30m, 12h or 7d", param_hint="--expires")
    return int(match[1]) * UNITS[match[2]]


if __name__ == "__main__":
    main()
