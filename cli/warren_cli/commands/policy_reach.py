"""Questions to the policy: who reaches what, why, and what another policy would change."""

from __future__ import annotations

from typing import Any

import click

from warren_cli.asking import OUTPUT, ask, show
from warren_cli.client import ApiError, call
from warren_cli.policy_text import read, refusal

PROTOCOL = click.option(
    "--protocol", default="tcp", show_default=True, help="A name such as udp or icmp, or a number."
)


class Target(click.ParamType[tuple[str, int]]):
    """`NODE:PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT`."""

    name = "DESTINATION:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        host, colon, port = str(value).rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            self.fail(
                "wants a machine or an address, and a port: web:22 or [fd7a:115c:a1e0::1]:22", param, ctx
            )
        return host, int(port)


TARGET = Target()


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything would change.")
@OUTPUT
@click.pass_context
def diff(context: click.Context, file: str, exit_code: bool, output: str) -> None:
    """Show who would reach what newly (+) and no longer (-) if FILE came into force."""
    source = read(file)
    try:
        answer = call(context.find_root().obj(), "POST", "/policy/diff", {"text": source.text})
    except ApiError as error:
        raise refusal(source.name, error) from error
    rows = [
        {**pair, "change": sign}
        for sign, pairs in (("+", answer["opened"]), ("-", answer["closed"]))
        for pair in pairs
    ]
    if output == "table" and not rows:
        click.echo("nobody would gain or lose anything")
    else:
        columns = [
            ("", "change"),
            ("SOURCE", "source"),
            ("DESTINATION", "destination"),
            ("PROTOCOL", "protocol"),
            ("PORTS", "ports"),
        ]
        show(answer, output, rows, columns)
        if output == "table" and answer.get("truncated"):
            click.echo("and more: the list is cut", err=True)
    context.exit(1 if exit_code and rows else 0)


@click.command("who-can")
@click.argument("flow", nargs=-1, required=True, metavar="[SOURCE] DESTINATION:PORT")
@PROTOCOL
@OUTPUT
@click.pass_context
def who_can(context: click.Context, flow: tuple[str, ...], protocol: str, output: str) -> None:
    """List the machines that reach DESTINATION:PORT; with SOURCE say whether it is one of them.

    With SOURCE the exit code is 1 if it is not.
    """
    *sources, destination = flow
    if len(sources) > 1:
        raise click.UsageError("give one SOURCE at most, and one DESTINATION:PORT")
    host, port = TARGET.convert(destination, None, context)
    question: dict[str, Any] = {"destination": host, "port": port, "protocol": protocol}
    for source in sources:
        answer = ask(context, "POST", "/policy/explain", {**question, "source": source})
        allowed = answer["allowed"]
        if output == "table":
            click.echo(f"{source} {'can' if allowed else 'cannot'} reach {host}:{port}/{protocol}")
        else:
            show(answer, output, [], [])
        context.exit(0 if allowed else 1)
    answer = ask(context, "POST", "/policy/who-can", question)
    if output == "table" and not answer["sources"]:
        click.echo(f"nobody can reach {host}:{port}/{protocol}")
    else:
        show(answer, output, [{"source": name} for name in answer["sources"]], [("SOURCE", "source")])


@click.command()
@click.argument("source")
@click.argument("destination", type=TARGET, metavar="DESTINATION:PORT")
@PROTOCOL
@OUTPUT
@click.pass_context
def explain(
    context: click.Context, source: str, destination: tuple[str, int], protocol: str, output: str
) -> None:
    """Say whether SOURCE reaches DESTINATION:PORT, and by which lines of the policy.

    SOURCE is a machine, an address or a user. The exit code is 1 if it does not.
    """
    host, port = destination
    question = {"source": source, "destination": host, "port": port, "protocol": protocol}
    answer = ask(context, "POST", "/policy/explain", question)
    if output == "table":
        click.echo(
            f"{source} {'reaches' if answer['allowed'] else 'does not reach'} {host}:{port}/{protocol}"
        )
        if answer.get("reason"):
            click.echo(answer["reason"])
        rules = [{**rule, "rule": f"{rule['section']}[{rule['index']}]"} for rule in answer["rules"]]
        if rules:
            show(answer, output, rows=rules, columns=[("LINE", "line"), ("RULE", "rule"), ("TEXT", "text")])
    else:
        show(answer, output, [], [])
    context.exit(0 if answer["allowed"] else 1)
