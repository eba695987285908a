"""`warren-agent`: the node agent's command line."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import click
import yaml

from warren_agent.config import Config, load
from warren_agent.errors import AgentError, ControlError, SetupError, StateError
from warren_agent.local_client import RequestError, ask, is_served
from warren_agent.paths.values import PingKind
from warren_runtime.settings import SettingsError
from warren_wire import __version__

for _package in ("pyroute2", "defusedxml"):
    # Loaded when they are needed, which takes a while; missed at once.
    if importlib.util.find_spec(_package) is None:
        raise ModuleNotFoundError(f"No module named {_package!r}", name=_package)

BAD_INPUT: Final = 2
FAILED: Final = 1
DOWN_SECONDS: Final = 30.0

CONFIG = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="WARREN_AGENT_CONFIG",
    help="YAML file with settings.",
)
SOCKET = click.option(
    "--socket",
    type=click.Path(path_type=Path),
    envvar="WARREN_AGENT_SOCKET",
    help=f"The agent's socket; default {Config.__dataclass_fields__['socket'].default}.",
)
OUTPUT = click.option(
    "--output", "-o", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True
)


def _fail(text: str, code: int) -> NoReturn:
    click.echo(f"warren-agent: {text}", err=True)
    sys.exit(code)


def _settings(config_file: Path | None, flags: Mapping[str, Any], *, joining: bool = True) -> Config:
    try:
        return load(config_file, os.environ, flags, socket.gethostname(), joining=joining)
    except SettingsError as error:
        _fail(f"settings: {error}", BAD_INPUT)


def _socket(config_file: Path | None, socket_path: Path | None) -> Path:
    if socket_path is not None:
        return socket_path
    return _settings(config_file, {}, joining=False).socket


def _asked(path: Path, method: str, question: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    try:
        return ask(path, method, question, body)
    except SetupError as error:
        _fail(str(error), BAD_INPUT)
    except RequestError as error:
        _fail(str(error), FAILED)


def _show(answer: Mapping[str, Any], output: str, table: str) -> None:
    match output:
        case "json":
            click.echo(json.dumps(answer, indent=2))
        case "yaml":
            click.echo(yaml.safe_dump(dict(answer), sort_keys=False), nl=False)
        case _:
            from warren_agent import tables

            tables.TABLES[table](answer)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Make this host a node of a Warren mesh."""


@main.command()
@CONFIG
@click.option("--server-url", help="The control server, such as https://203.0.113.10.")
@click.option(
    "--auth-key-file", type=click.Path(), help="File with the join key; not needed once registered."
)
@click.option(
    "--ca-file", type=click.Path(), help="CA of the control server's certificate, if it is private."
)
@click.option("--hostname", help="Name of this node; default: the host's.")
@click.option("--state-dir", type=click.Path(), help="Folder of the keys and the cached network map.")
@click.option("--interface", help="Name of the interface.")
@click.option("--listen-port", type=int, help="UDP port of WireGuard.")
@click.option("--data-plane", help="auto, kernel or userspace.")
@click.option("--advertise-route", "advertise_routes", multiple=True, help="A range to offer; repeatable.")
@click.option("--accept-routes/--no-accept-routes", default=None, help="Use the ranges others offer.")
@click.option(
    "--port-mapping",
    multiple=True,
    help="nat-pmp, pcp or upnp: how to ask a home router for an open port; repeatable; default: all; or off.",
)
@click.option("--socket", type=click.Path(), help="Where to answer `status` and the like.")
@click.option("--health-listen", help="ADDRESS:PORT of /health, /ready and /metrics, or 'off'.")
@click.option("--log-level", default="info", show_default=True, envvar="WARREN_AGENT_LOG_LEVEL")
def up(config_file: Path | None, log_level: str, **flags: Any) -> None:
    """Join and stay until stopped. Stopping by a signal leaves traffic flowing."""
    for name in ("advertise_routes", "port_mapping"):
        flags[name] = list(flags[name]) or None
    config = _settings(config_file, flags)
    # Loaded once, and never to be looked at again by the collector: it is most of what this process holds.
    gc.disable()
    from warren_agent import app
    from warren_runtime import logs
    from warren_runtime.tasks import run_service

    gc.freeze()
    gc.enable()
    try:
        logs.setup(log_level)
    except ValueError:
        _fail("--log-level: debug, info, warning or error is expected", BAD_INPUT)
    # Its debug log has a line for each netlink attribute.
    logging.getLogger("pyroute2").setLevel(logging.INFO)
    try:
        run_service(lambda: app.up(config))
    except (SetupError, StateError) as error:
        _fail(str(error), BAD_INPUT)


@main.command()
@CONFIG
@click.option("--interface", help="Name of the interface.")
@click.option("--uapi-dir", type=click.Path(), help="Folder of the program's socket.")
def wireguard(config_file: Path | None, **flags: Any) -> None:
    """Run the userspace WireGuard for an agent in another container; idle where the kernel has WireGuard."""
    from warren_agent.data_plane import companion_command
    from warren_agent.kernel.wireguard_netlink import kernel_has_wireguard

    config = _settings(config_file, flags, joining=False)
    in_kernel = kernel_has_wireguard()
    command = companion_command(config, in_kernel=in_kernel)
    try:
        os.execvp(command[0], command)  # noqa: S606 - nothing of this process is to stay
    except OSError as error:
        _fail(f"cannot start {command[0]}: {error.strerror}", BAD_INPUT)


@main.command()
@CONFIG
@SOCKET
def down(config_file: Path | None, socket: Path | None) -> None:
    """Ask the running agent to leave the host as it was found and to end. Its keys stay."""
    path = _socket(config_file, socket)
    _asked(path, "POST", "down")
    if not _wait_until_gone(path):
        _fail(f"the agent at {path} does not end; see its log", FAILED)


def _wait_until_gone(path: Path) -> bool:
    deadline = time.monotonic() + DOWN_SECONDS
    while is_served(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@main.command()
@CONFIG
@SOCKET
@OUTPUT
def status(config_file: Path | None, socket: Path | None, output: str) -> None:
    """Show this node, its control server and how each peer is reached."""
    path = _socket(config_file, socket)
    _show(_asked(path, "GET", "status"), output, "status")


@main.command()
@click.argument("peer", metavar="NAME|ADDRESS")
@CONFIG
@SOCKET
@OUTPUT
@click.option("--count", "-c", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in PingKind]),
    default=PingKind.DISCO.value,
    show_default=True,
    help="disco: the peer's node program, by every path; tsmp: the same through the tunnel;"
    " icmp: the peer's kernel, through the tunnel and its firewall.",
)
def ping(
    peer: str, count: int, kind: str, config_file: Path | None, socket: Path | None, output: str
) -> None:
    """Ask a peer for an answer and show by which path it came. Exit code 1 without one."""
    path = _socket(config_file, socket)
    answered = False
    for _ in range(count):
        answer = _asked(path, "POST", "ping", {"peer": peer, "kind": kind})
        answered = answered or bool(answer["answered"])
        _show(answer, output, "ping")
    sys.exit(0 if answered else FAILED)


@main.command()
@CONFIG
@SOCKET
@OUTPUT
def netcheck(config_file: Path | None, socket: Path | None, output: str) -> None:
    """Show what this host's network allows: UDP, public address, kind of NAT, relays."""
    path = _socket(config_file, socket)
    _show(_asked(path, "POST", "netcheck", {}), output, "netcheck")


@main.command()
@CONFIG
@click.option("--interface", help="Name of the interface.")
@click.option("--state-dir", type=click.Path(), help="Folder of the keys and the cached network map.")
@click.option("--purge", is_flag=True, help="Leave the mesh for good: log out, be forgotten, drop the keys.")
def cleanup(config_file: Path | None, purge: bool, **flags: Any) -> None:
    """Remove the interface, routes, rules, firewall table and programs of the agent. Harmless to repeat."""
    from warren_agent import app

    config = _settings(config_file, flags, joining=False)
    try:
        problems = _taken_down(config)
        untold = asyncio.run(app.forget(config)) if purge else None
    except AgentError as error:
        _fail(str(error), BAD_INPUT)
    except OSError as error:
        _fail(f"cannot remove {config.state_dir}: {error.strerror}", FAILED)
    if untold is not None:
        click.echo(f"warren-agent: {untold}", err=True)
    for problem in problems:
        click.echo(f"warren-agent: {problem}", err=True)
    sys.exit(FAILED if problems else 0)


def _taken_down(config: Config) -> list[str]:
    """The host as it was found; gives what could not be removed."""
    from warren_agent import app
    from warren_agent.requirements import require_capabilities

    require_capabilities()
    if is_served(config.socket):
        # A running agent would put back what is removed here.
        _asked(config.socket, "POST", "down")
        _wait_until_gone(config.socket)
    return app.cleanup(config)


@main.command()
@CONFIG
@click.option("--server-url", help="The control server, such as https://203.0.113.10.")
@click.option("--state-dir", type=click.Path(), help="Folder of the keys and the cached network map.")
def logout(config_file: Path | None, **flags: Any) -> None:
    """Leave the mesh: end the agent, be forgotten by the control server, drop the keys.

    The keys stay, and the exit code is 1, if the server cannot be told; `cleanup --purge` drops them anyway.
    """
    from warren_agent import app

    config = _settings(config_file, flags)
    try:
        problems = _taken_down(config)
        asyncio.run(app.log_out(config))
    except ControlError as error:
        _fail(f"still a member, and the keys are kept: {error}", FAILED)
    except AgentError as error:
        _fail(str(error), BAD_INPUT)
    except OSError as error:
        _fail(f"cannot remove {config.state_dir}: {error.strerror}", FAILED)
    for problem in problems:
        click.echo(f"warren-agent: {problem}", err=True)
    sys.exit(FAILED if problems else 0)


@main.command()
@CONFIG
@click.option("--file", "target", type=click.File("w"), default="-", help="Where to write; default: here.")
def bugreport(config_file: Path | None, target: IO[str]) -> None:
    """Write what helps to find a fault, as JSON: addresses and public keys are in it, secrets are not."""
    from warren_agent.bug_report import bug_report

    config = _settings(config_file, {}, joining=False)
    json.dump(bug_report(config), target, indent=2)
    target.write("\n")


if __name__ == "__main__":
    main()
