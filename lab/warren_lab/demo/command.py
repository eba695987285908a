"""`warren-lab demo`: looks at the machine, runs the demo, says what came true."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from warren_lab import preflight
from warren_lab.demo.facts import Facts
from warren_lab.demo.show import Demo, write_facts
from warren_lab.demo.story import Story
from warren_lab.errors import LabError

NEEDS = ("network", "cluster", "images")


@click.command()
@click.option(
    "--keep", is_flag=True, help="Leave everything running at the end; `warren-lab down` removes it."
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the facts and times to this file."
)
@click.option(
    "--logs", type=click.Path(path_type=Path), help="Keep the logs of the lab's programs in this folder."
)
@click.option(
    "--no-install", is_flag=True, help="Do not install missing Debian packages; name them and stop."
)
def demo(keep: bool, json_file: Path | None, logs: Path | None, no_install: bool) -> None:
    """Make one mesh of two real clusters behind NAT and a stock client, step by step.

    Exit code 0 only if every step truly happened; 1 if one did not; 2 if this machine cannot run it.
    """
    problems = preflight.ensure(NEEDS, install=not no_install)
    if problems:
        raise LabError("; ".join(str(problem) for problem in problems))
    story = Story()
    show = Demo(story)
    failure = None
    try:
        show.run(keep=keep, logs=logs)
    except LabError as error:
        failure = str(error)
    if json_file is not None:
        write_facts(show.facts, json_file)
    _verdict(story, show.facts, failure, keep=keep)


def _verdict(story: Story, facts: Facts, failure: str | None, *, keep: bool) -> None:
    click.echo()
    missing = [name for name in facts.missing() if not (keep and name == "removed")]
    if failure is None and not missing:
        story.good("every step happened")
        return
    if failure is not None:
        story.bad(failure)
    story.bad("not seen: " + ", ".join(missing))
    sys.exit(1)
