"""`warren`: the command for people. Asks a control server's API and prints what it says."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from warren_cli import target
from warren_cli.asking import OUTPUT, Problem, ask, show
from warren_cli.client import ApiError, Target
from warren_cli.commands.config import config_group
from warren_cli.commands.dns import dns
from warren_cli.commands.keys import keys
from warren_cli.commands.nodes import nodes
from warren_cli.commands.policy import policy
from warren_cli.commands.relays import relays
from warren_cli.commands.routes import routes
from warren_cli.commands.ssh import ssh
from warren_cli.commands.tags import tags
from warren_cli.commands.tokens import tokens
from warren_cli.commands.users import users
from warren_wire import __version__


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
    show(answer, output, rows, [("FIELD", "field"), ("VALUE", "value")])


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion for SHELL, such as `eval "$(warren completion bash)"`."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(main, {}, "warren", "_WARREN_COMPLETE").source())


for group in (nodes, keys, users, policy, ssh, relays, routes, tags, tokens, dns, config_group):
    main.add_command(group)
# The name that people who come from other relays look for.
main.add_command(relays, "derp")


if __name__ == "__main__":
    main()
