"""The answers of the agent as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

NARROW_COLUMNS: Final = 100
"""A terminal below this has no room for the columns that are marked as wide."""
MAX_NAMES: Final = 8


class Column(NamedTuple):
    title: str
    wide: bool = False
    """Left out of narrow terminals."""


def _print(columns: Sequence[str | Column], rows: Sequence[Sequence[str]]) -> None:
    # A pipe gets whole lines; only a terminal is folded to its width.
    console = Console()
    width = console.width if console.is_terminal else 400
    titled = [column if isinstance(column, Column) else Column(column) for column in columns]
    shown = [place for place, column in enumerate(titled) if width >= NARROW_COLUMNS or not column.wide]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place in shown:
        table.add_column(titled[place].title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[place]) for place in shown))
    Console(width=width, highlight=False).print(table)


def _latency(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f} ms"


def _size(count: int) -> str:
    """1536 becomes `1.5 KiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _age(moment: str | None, now: datetime) -> str:
    """How long ago, in the largest whole unit."""
    if moment is None:
        return "-"
    seconds = max(0, int((now - datetime.fromisoformat(moment)).total_seconds()))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _way(answer: Mapping[str, Any]) -> str:
    match answer["path"]:
        case "direct":
            return f"direct {answer['endpoint']}"
        case "relay":
            return f"relay {answer['relay'] or 'not known'}"
        case other:
            return str(other)


def status(answer: Mapping[str, Any]) -> None:
    now = datetime.now(UTC)
    node, control, home = answer["node"], answer["control"], answer["home_relay"]
    click.echo(f"Node      {node['fqdn'] or 'not registered'}  {' '.join(node['addresses'])}".rstrip())
    state = "connected" if control["connected"] else "not connected"
    since = f" for {_age(control['since'], now)}" if control["since"] else ""
    click.echo(f"Control   {control['url']}  {state}{since}")
    if control["login_url"]:
        click.echo(f"          log in at {control['login_url']}")
    elif control["last_error"]:
        click.echo(f"          {control['last_error']}")
    click.echo(f"Relay     {home['code'] if home else '-'}")
    click.echo(f"Plane     {answer['data_plane']}")
    if answer["peers"]:
        click.echo()
        _peers(answer["peers"], now)
    if answer["errors"]:
        click.echo()
        for error in answer["errors"]:
            click.echo(f"! {error}")


def _peers(peers: Sequence[Mapping[str, Any]], now: datetime) -> None:
    _print(
        [
            "PEER",
            "ADDRESS",
            "PATH",
            "SINCE",
            "LATENCY",
            Column("RECEIVED", wide=True),
            Column("SENT", wide=True),
        ],
        [
            [
                peer["name"],
                peer["addresses"][0] if peer["addresses"] else "-",
                "offline" if peer["path"] == "idle" and not peer["online"] else _way(peer),
                _age(peer["since"], now),
                _latency(peer["latency_ms"]),
                _size(peer["rx_bytes"]),
                _size(peer["tx_bytes"]),
            ]
            for peer in peers
        ],
    )
    _lines("Routes", [(peer["name"], ", ".join(peer["routes"])) for peer in peers if peer["routes"]])
    reasons: dict[str, list[str]] = {}
    for peer in peers:
        if peer["path"] == "relay":
            reasons.setdefault(peer["not_direct"], []).append(peer["name"])
    _lines("Not direct", [(_names(names), reason) for reason, names in reasons.items()])


def _lines(title: str, lines: Sequence[tuple[str, str]]) -> None:
    if lines:
        click.echo(f"\n{title}:")
    for subject, text in lines:
        click.echo(f"  {subject}: {text}")


def _names(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def ping(answer: Mapping[str, Any]) -> None:
    if answer["answered"]:
        click.echo(f"{answer['name']}: {_latency(answer['latency_ms'])} by {_way(answer)}")
    else:
        click.echo(f"{answer['name']}: no answer")


_NAT: Final = {
    None: "unknown: it takes two STUN addresses to tell",
    True: "hard: the public port differs by destination",
    False: "easy: the public port is the same for all destinations",
}


def netcheck(answer: Mapping[str, Any]) -> None:
    mapping, home = answer["port_mapping"], answer["home_relay"]
    click.echo(f"UDP            {'yes' if answer['udp'] else 'no: every peer is reached over a relay'}")
    click.echo(f"IPv4           {answer['ipv4'] or 'no'}")
    click.echo(f"IPv6           {answer['ipv6'] or 'no'}")
    click.echo(f"NAT            {_NAT[answer['mapping_varies']]}")
    click.echo(f"Port mapping   {_mapping(mapping)}")
    click.echo(f"Nearest relay  {home['code'] if home else '-'}")
    if answer["relays"]:
        click.echo()
        _print(
            ["RELAY", "NAME", "LATENCY", "IPV4", "IPV6"],
            [
                [
                    relay["code"],
                    relay["name"],
                    _latency(relay["latency_ms"]),
                    _latency(relay["latency_v4_ms"]),
                    _latency(relay["latency_v6_ms"]),
                ]
                for relay in answer["relays"]
            ],
        )


def _mapping(mapping: Mapping[str, Any]) -> str:
    if mapping["external"]:
        return f"{mapping['external']} by {mapping['by']}"
    if not mapping["enabled"]:
        return "switched off"
    if mapping["router"] is None:
        return "no home router"
    seen = ", ".join(mapping["seen"])
    return f"refused by {mapping['router']} ({seen})" if seen else f"{mapping['router']} offers none"


TABLES: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "status": status,
    "ping": ping,
    "netcheck": netcheck,
}
"""By the name of the command."""
