"""`warren`: the command for people. Asks a control server's API and prints what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote, urlencode

import click
import yaml
from click.shell_completion import get_completion_class

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


def names_of(path: str, field: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Completion with the names of what the server has; silent where it cannot be asked."""

    def complete(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
        root = context.find_root()
        given = {name: root.params.get(name) for name in ("server", "token_file", "ca_file")}
        try:
            found = target.from_flags(given["server"], given["token_file"], given["ca_file"])
            listed = call(found, "GET", path)[field]
        except (ApiError, KeyError):
            return []
        return [each["name"] for each in listed if each["name"].startswith(begun)]

    return complete


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
            ("EXPIRY", "expiry"),
        ],
    )


@nodes.command("rename")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("name")
@click.pass_context
def rename_node(context: click.Context, node: str, name: str) -> None:
    """Give NODE (name or id) another NAME."""
    ask(context, "PATCH", f"/nodes/{_node_id(context, node)}", {"name": name})


@nodes.command("approve-routes")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
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


@nodes.command("show")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.option("--output", "-o", type=click.Choice(["json", "yaml"]), default="yaml", show_default=True)
@click.pass_context
def show_node(context: click.Context, node: str, output: str) -> None:
    """Show all that is known of NODE (name or id)."""
    _show(ask(context, "GET", f"/nodes/{_node_id(context, node)}"), output, [], [])


@nodes.command("expire")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.pass_context
def expire_node(context: click.Context, node: str) -> None:
    """Log NODE out now; its record stays for its next login."""
    ask(context, "POST", f"/nodes/{_node_id(context, node)}/expire")


@nodes.command("set-expiry")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("when", metavar="WHEN")
@click.pass_context
def set_expiry(context: click.Context, node: str, when: str) -> None:
    """Make NODE log in again after WHEN, such as 90d from now; `never` switches expiry off for it."""
    expiry = None
    if when != "never":
        expiry = (datetime.now(UTC) + timedelta(seconds=_seconds(when, "WHEN"))).isoformat()
    ask(context, "PATCH", f"/nodes/{_node_id(context, node)}", {"expiry": expiry})


@nodes.command("set-addresses")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@click.pass_context
def set_addresses(context: click.Context, node: str, addresses: tuple[str, ...]) -> None:
    """Give NODE other ADDRESSes of the mesh: at most one of each family."""
    ask(context, "PATCH", f"/nodes/{_node_id(context, node)}", {"addresses": list(addresses)})


@nodes.command("disable")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.pass_context
def disable_node(context: click.Context, node: str) -> None:
    """Cut NODE off from all others until it is enabled."""
    ask(context, "PATCH", f"/nodes/{_node_id(context, node)}", {"disabled": True})


@nodes.command("enable")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.pass_context
def enable_node(context: click.Context, node: str) -> None:
    """Let NODE take part again."""
    ask(context, "PATCH", f"/nodes/{_node_id(context, node)}", {"disabled": False})


@nodes.command("delete")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
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


@relays.command("add")
@click.argument("file", type=click.File("rb"))
@click.pass_context
def add_relay(context: click.Context, file: IO[bytes]) -> None:
    """Add or replace the relay region in FILE: YAML or JSON in the shape of Tailscale's DERPMap."""
    try:
        region = yaml.safe_load(file)
        number = int(region["RegionID"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise Problem(f"{file.name} describes no relay region: RegionID is missing or no number") from error
    ask(context, "PUT", f"/relays/{number}", region)


@relays.command("delete")
@click.argument("region", type=int)
@click.pass_context
def delete_relay(context: click.Context, region: int) -> None:
    """Remove relay REGION (its id)."""
    ask(context, "DELETE", f"/relays/{region}")


main.add_command(relays, "derp")


@main.group()
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
    _show({"routes": rows}, output, rows, columns)


@routes.command("approve")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("wanted", nargs=-1, metavar="[ROUTE]...")
@click.pass_context
def approve_more(context: click.Context, node: str, wanted: tuple[str, ...]) -> None:
    """Let NODE serve these ROUTEs as well; without any, all that it offers."""
    known = ask(context, "GET", f"/nodes/{_node_id(context, node)}")
    added = wanted or known["advertised_routes"]
    approved = list(dict.fromkeys((*known["approved_routes"], *added)))
    ask(context, "PATCH", f"/nodes/{known['id']}", {"approved_routes": approved})


@routes.command("revoke")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("unwanted", nargs=-1, required=True, metavar="ROUTE...")
@click.pass_context
def revoke_routes(context: click.Context, node: str, unwanted: tuple[str, ...]) -> None:
    """Take the approval of these ROUTEs back from NODE."""
    known = ask(context, "GET", f"/nodes/{_node_id(context, node)}")
    approved = [route for route in known["approved_routes"] if route not in unwanted]
    ask(context, "PATCH", f"/nodes/{known['id']}", {"approved_routes": approved})


@main.group()
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
    _show({"tags": rows}, output, rows, [("TAG", "tag"), ("MACHINES", "nodes")])


@tags.command("set")
@click.argument("node", shell_complete=names_of("/nodes", "nodes"))
@click.argument("wanted", nargs=-1, metavar="[TAG]...")
@click.pass_context
def set_tags(context: click.Context, node: str, wanted: tuple[str, ...]) -> None:
    """Give NODE exactly these TAGs, such as tag:web; none at all returns it to its user."""
    ask(context, "PATCH", f"/nodes/{_node_id(context, node)}", {"tags": list(wanted)})


@main.group()
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
        context, "POST", "/tokens", {**wish, "expires_in_seconds": _seconds(expires)} if expires else wish
    )
    click.echo(answer["token"])


@tokens.command("list")
@OUTPUT
@click.pass_context
def list_tokens(context: click.Context, output: str) -> None:
    """List the tokens, without their secrets."""
    answer = ask(context, "GET", "/tokens")
    columns = [("ID", "id"), ("NAME", "name"), ("SCOPE", "scope"), ("EXPIRY", "expiry")]
    _show(answer, output, answer["tokens"], columns)


@tokens.command("delete")
@click.argument("token_id")
@click.pass_context
def delete_token(context: click.Context, token_id: str) -> None:
    """Make a token unusable."""
    ask(context, "DELETE", f"/tokens/{quote(token_id, safe='')}")


@main.group()
def dns() -> None:
    """Names and resolvers that machines are told."""


@dns.command("show")
@click.option("--output", "-o", type=click.Choice(["json", "yaml"]), default="yaml", show_default=True)
@click.pass_context
def show_dns(context: click.Context, output: str) -> None:
    """Show the DNS settings; they are changed in the server's configuration."""
    _show(ask(context, "GET", "/dns"), output, [], [])


@main.group("config")
def config_group() -> None:
    """The configuration of a control server on this machine."""


@config_group.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path) -> None:
    """Say whether a control server could use FILE; every problem on a line."""
    command = shutil.which("warren-control", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    if command is None:
        raise Problem("warren-control is not installed here: pip install 'warren[control]'")
    sys.exit(subprocess.run([command, "config", "check", "--config", str(file)], check=False).returncode)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion for SHELL, such as `eval "$(warren completion bash)"`."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "warren", "_WARREN_COMPLETE").source())


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


def _seconds(text: str, what: str = "--expires") -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if not match:
        raise click.BadParameter("wants a number and a unit, such as 30m, 12h or 7d", param_hint=what)
    return int(match[1]) * UNITS[match[2]]


if __name__ == "__main__":
    main()
