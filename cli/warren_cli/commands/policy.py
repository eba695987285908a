"""The policy: who reaches what in the mesh."""

from __future__ import annotations

import tempfile
from typing import Any, Final
from urllib.parse import urlencode

import click

from warren_cli.asking import OUTPUT, Problem, ask, show
from warren_cli.client import ApiError, call
from warren_cli.commands.policy_reach import diff, explain, who_can
from warren_cli.policy_text import Source, complaints, read, refusal

FILE = click.argument("file", metavar="FILE", type=click.Path(allow_dash=True))
IF_VERSION = click.option(
    "--if-version", type=click.IntRange(min=0), help="Only if this version is the one in force."
)

NEW_POLICY: Final = """// Who reaches what. Without "grants" everybody reaches everything.
{
\t"grants": [
\t\t{"src": ["*"], "dst": ["*"], "ip": ["*"]},
\t],
}
"""


@click.group()
def policy() -> None:
    """The policy: who reaches what in the mesh.

    FILE is HuJSON as Tailscale reads it; `-` is standard input. What is wrong with it is told as
    FILE:LINE:COLUMN, and the exit code is 1.
    """


@policy.command("show")
@click.option(
    "--version", type=click.IntRange(min=1), help="An earlier version; see `warren policy history`."
)
@click.option(
    "--output", "-o", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True
)
@click.pass_context
def show_policy(context: click.Context, version: int | None, output: str) -> None:
    """Print the policy in force as it was written."""
    answer = ask(context, "GET", "/policy" if version is None else f"/policy/history/{version}")
    if output != "text":
        show(answer, output, [], [])
    elif answer["text"]:
        click.echo(answer["text"], nl=not answer["text"].endswith("\n"))
    else:
        click.echo("no policy: everybody reaches everything", err=True)


@policy.command("check")
@FILE
@OUTPUT
@click.pass_context
def check_policy(context: click.Context, file: str, output: str) -> None:
    """Say whether the server would take FILE, its own tests included; nothing is changed."""
    source = read(file)
    answer = _checked(context, source)
    if output != "table":
        show(answer, output, [], [])
    else:
        for line in complaints(source.name, answer):
            click.echo(line)
        if answer["ok"]:
            count = len(answer.get("tests") or ())
            click.echo(f"{source.name} is valid" + (f"; {count} tests pass" if count else ""))
    context.exit(0 if answer["ok"] else 1)


@policy.command("test")
@click.argument("file", metavar="[FILE]", type=click.Path(allow_dash=True), required=False)
@OUTPUT
@click.pass_context
def test_policy(context: click.Context, file: str | None, output: str) -> None:
    """Run the tests of FILE, or of the policy in force, against the machines and users there are now."""
    source = read(file) if file else Source("policy", ask(context, "GET", "/policy")["text"])
    answer = _checked(context, source)
    tests = answer.get("tests") or []
    for problem in complaints(source.name, {"problems": answer.get("problems")}):
        click.echo(problem, err=True)
    rows = [{**test, "result": "pass" if test["passed"] else "FAIL"} for test in tests]
    columns = [("LINE", "line"), ("TEST", "path"), ("RESULT", "result"), ("WHY", "message")]
    if output == "table" and not tests:
        click.echo(f"{source.name} has no tests")
    else:
        show({"ok": answer["ok"], "tests": tests}, output, rows, columns)
    context.exit(0 if answer["ok"] else 1)


@policy.command("set")
@FILE
@IF_VERSION
@click.option("--comment", default="", help="Why, for the history.")
@click.pass_context
def set_policy(context: click.Context, file: str, if_version: int | None, comment: str) -> None:
    """Put FILE in force. A policy that is refused changes nothing."""
    source = read(file)
    try:
        answer = _put(context, source.text, comment, if_version)
    except ApiError as error:
        raise refusal(source.name, error) from error
    for line in complaints(source.name, {"warnings": answer.get("warnings")}):
        click.echo(line, err=True)
    click.echo(f"version {answer['version']} is in force")


@policy.command("edit")
@click.option("--comment", default="", help="Why, for the history.")
@click.pass_context
def edit_policy(context: click.Context, comment: str) -> None:
    """Open the policy in force in $EDITOR and put what you save in force.

    If somebody else changed it meanwhile, nothing is overwritten: your text is kept in a file.
    """
    known = ask(context, "GET", "/policy")
    text = known["text"] or NEW_POLICY
    while True:
        edited = click.edit(text, extension=".hujson")
        if edited is None or edited == known["text"]:
            click.echo("nothing was changed")
            return
        text = edited
        try:
            answer = _put(context, text, comment, known["version"])
        except ApiError as error:
            problem = refusal("policy", error)
            if error.status == 422:
                click.echo(problem.message, err=True)
                if click.confirm("Edit it again?", default=True, err=True):
                    continue
            raise Problem(f"{problem.message}\nyour text is in {_kept(text)}") from error
        click.echo(f"version {answer['version']} is in force")
        return


@policy.command("history")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--offset", type=click.IntRange(min=0), default=0)
@OUTPUT
@click.pass_context
def show_history(context: click.Context, limit: int, offset: int, output: str) -> None:
    """List the versions there were, newest first; `warren policy show --version N` prints one."""
    answer = ask(context, "GET", "/policy/history?" + urlencode({"limit": limit, "offset": offset}))
    columns = [
        ("VERSION", "version"),
        ("CREATED", "created"),
        ("AUTHOR", "author"),
        ("SOURCE", "source"),
        ("COMMENT", "comment"),
    ]
    show(answer, output, answer["items"], columns)


@policy.command("delete")
@IF_VERSION
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def delete_policy(context: click.Context, if_version: int | None, yes: bool) -> None:
    """Take the policy out of force: everybody reaches everything then."""
    if not yes:
        click.confirm("Let everybody in the mesh reach everything?", abort=True, err=True)
    ask(context, "DELETE", "/policy", headers=_if_match(if_version))


for command in (diff, who_can, explain):
    policy.add_command(command)


def _checked(context: click.Context, source: Source) -> Any:
    return ask(context, "POST", "/policy/check", {"text": source.text})


def _put(context: click.Context, text: str, comment: str, version: int | None) -> Any:
    body = {"text": text, "comment": comment}
    return call(context.find_root().obj(), "PUT", "/policy", body, _if_match(version))


def _if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _kept(text: str) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="policy-", suffix=".hujson", delete=False) as file:
        file.write(text)
    return file.name
