"""Control servers under simulated clients: what joins, changes, restarts and churn cost."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

import click
import uvloop

from warren_bench import control_churn, control_load, control_servers, frame
from warren_bench.control_load import Figures
from warren_bench.frame import Row
from warren_lab import tools
from warren_lab.tools import Printer

SIZES: Final = (100, 300, 1000)
RESTART_SIZE: Final = 1000
IDLE_SIZE: Final = 5000
CHURN_MINUTES: Final = 15.0
POLICY_SIZE: Final = 300
# Everybody is still in everybody's map, so that both servers send as much.
SMALL_POLICY: Final = """{
  "groups": {"group:ops": ["members@"]},
  "tagOwners": {"tag:web": ["group:ops"]},
  "grants": [
    {"src": ["group:ops"], "dst": ["*"], "ip": ["tcp:22"]},
    {"src": ["autogroup:member"], "dst": ["autogroup:member"], "ip": ["*"]},
    {"src": ["*"], "dst": ["tag:web"], "ip": ["tcp:443"]},
  ],
}"""
# What the server is asked to stay below, by the number of clients.
_GOALS: Final = {
    (300, "join_cpu"): "<= 0.1",
    (300, "change_cpu"): "<= 0.34",
    (300, "change_seconds"): "<= 0.1 s",
    (300, "dropped"): "<= 0 streams",
    (1000, "join_seconds"): "<= 60 s",
}


class Part(Enum):
    """What is measured; each part starts servers of its own."""

    JOINS = "joins"
    RESTART = "restart"
    IDLE = "idle"
    CHURN = "churn"
    POLICY = "policy"


def rows(
    runs: int,
    *,
    parts: Sequence[str] = (),
    sizes: Sequence[int] = (),
    churn_minutes: float = CHURN_MINUTES,
    alone: bool = False,
) -> list[Row]:
    """One run for each part and size, whatever `runs` says: a join of a thousand is its own average."""
    # Both servers inherit it: each client is a file of the server's and one of ours.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    wanted = [Part(part) for part in parts] or list(Part)
    makers: dict[Part, Callable[[], list[Row]]] = {
        Part.JOINS: lambda: _joins(sizes or SIZES, alone),
        Part.RESTART: lambda: _restart(sizes[-1] if sizes else RESTART_SIZE),
        Part.IDLE: lambda: _idle(sizes[-1] if sizes else IDLE_SIZE),
        Part.CHURN: lambda: _churn(churn_minutes),
        Part.POLICY: lambda: _policy(sizes[-1] if sizes else POLICY_SIZE),
    }
    return [row for part in wanted for row in makers[part]()]


def _joins(sizes: Sequence[int], alone: bool) -> list[Row]:
    program = None if alone else tools.ensure(("headscale",), Printer()).path("headscale")
    found: list[Row] = []
    for size in sizes:
        say(f"warren: {size} clients join")
        with control_servers.warren() as ours:
            figures = uvloop.run(control_load.joins(ours, size, say))
        theirs = None
        if program is not None:
            say(f"headscale: {size} clients join")
            with control_servers.headscale(program) as peer:
                theirs = uvloop.run(control_load.joins(peer, size, say))
        found += _join_rows(size, figures, theirs)
    return found


def _join_rows(size: int, ours: Figures, peer: Figures | None) -> list[Row]:
    def one(work: str, unit: str, name: str) -> Row:
        there = float(getattr(peer, name)) if peer is not None else None
        goal, mine = _GOALS.get((size, name)), float(getattr(ours, name))
        return frame.row(f"{size}: {work}", mine, unit, peer=there, peer_name="headscale", goal=goal)

    return [
        one("all joined", "s", "join_seconds"),
        one("server's processor time for the joins", "s", "join_cpu"),
        one("endpoint change, last client heard", "s", "change_seconds"),
        one("endpoint change, processor time", "s", "change_cpu"),
        one("rename, last client heard", "s", "rename_seconds"),
        one("rename, processor time", "s", "rename_cpu"),
        one("resident for each client", "KB", "client_kilobytes"),
        one("resident in all", "MB", "megabytes"),
        one("streams dropped", "streams", "dropped"),
    ]


def _restart(size: int) -> list[Row]:
    say(f"warren: {size} clients and a restart")
    with control_servers.warren() as server:
        figures = uvloop.run(control_load.restart(server, size, say))
    peak = figures.peak_megabytes / figures.steady_megabytes
    return [
        frame.row(f"{size}: restart until all are back", figures.seconds, "s", goal="<= 15 s"),
        frame.row(f"{size}: restart, server's processor time", figures.cpu, "s"),
        frame.row(f"{size}: resident, steady", figures.steady_megabytes, "MB"),
        frame.row(f"{size}: resident at most after the restart, of that", peak, "times", goal="<= 2 times"),
    ]


def _idle(size: int) -> list[Row]:
    say(f"warren: {size} idle clients")
    with control_servers.warren() as server:
        figures = uvloop.run(control_load.idle(server, size, say))
    return [
        frame.row(f"{size} idle: all joined", figures.join_seconds, "s"),
        frame.row(f"{size} idle: processor time for the joins", figures.join_cpu, "s"),
        frame.row(f"{size} idle: resident for each client", figures.client_kilobytes, "KB", goal="<= 60 KB"),
        frame.row(f"{size} idle: processor time each second", figures.idle_cpu, "s"),
        frame.row(f"{size} idle: streams dropped", figures.dropped, "streams", goal="<= 0 streams"),
    ]


def _churn(minutes: float) -> list[Row]:
    say(f"warren: a week of churn in {minutes:g} minutes")
    with control_servers.warren() as server:
        readings = uvloop.run(control_churn.churn(server, minutes * 60, say))
    settled, last = readings[len(readings) // 4], readings[-1]
    return [
        frame.row("churn: part of a week's events done", last.done, "weeks"),
        frame.row("churn: processor time", last.cpu, "s"),
        frame.row("churn: resident after a quarter", settled.megabytes, "MB"),
        frame.row("churn: resident at the end", last.megabytes, "MB"),
        frame.row("churn: open files after a quarter", settled.files, "files"),
        frame.row("churn: open files at the end", last.files, "files"),
        frame.row("churn: events that failed", last.failed, "events", goal="<= 0 events"),
    ]


def _policy(size: int) -> list[Row]:
    """What a policy costs, against the same server without one."""
    found = []
    for text in ("", SMALL_POLICY):
        say(f"warren: {size} clients join, {'under a policy' if text else 'without a policy'}")
        with control_servers.warren(text) as server:
            found.append(uvloop.run(control_load.joins(server, size, say)))
    without, under = found

    def one(work: str, unit: str, name: str) -> Row:
        mine, there = float(getattr(under, name)), float(getattr(without, name))
        return frame.row(f"{size} under a policy: {work}", mine, unit, peer=there, peer_name="without")

    return [
        one("all joined", "s", "join_seconds"),
        one("processor time for the joins", "s", "join_cpu"),
        one("endpoint change, last client heard", "s", "change_seconds"),
        one("endpoint change, processor time", "s", "change_cpu"),
        one("rename, processor time", "s", "rename_cpu"),
        one("resident for each client", "KB", "client_kilobytes"),
    ]


def say(text: str) -> None:
    click.echo(text, err=True)
