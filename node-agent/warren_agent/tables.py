"""The answers of the agent as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A pipe gets whole lines; only a terminal is folded to its width.
    console = Console()
    Console(width=console.width if console.is_terminal else 400).print(table)


def _latency(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f} ms"


def _way(answer: Mapping[str, Any]) -> str:
    match answer["path"]:
        case "direct":
            return f"direct {answer['endpoint']}"
        case "relay":
            return f"relay {answer['relay']}"
        case other:
            return str(other)


def status(answer: Mapping[str, Any]) -> None:
    node, control, home = answer["node"], answer["control"], answer["home_relay"]
    click.echo(f"Node      {node['fqdn'] or 'not registered'}  {' '.join(node['addresses'])}".rstrip())
    state = "connected" if control["connected"] else "not connected"
    click.echo(f"Control   {control['url']}  {state} since {control['since'] or '-'}")
    if control["last_error"]:
        click.echo(f"          {control['last_error']}")
    click.echo(f"Relay     {home['code'] if home else '-'}")
    click.echo(f"Plane     {answer['data_plane']}")
    if answer["peers"]:
        click.echo()
        _print(
            ["PEER", "ADDRESSES", "ROUTES", "ONLINE", "PATH", "LATENCY", "RECEIVED", "SENT"],
            [
                [
                    peer["name"],
                    " ".join(peer["addresses"]),
                    " ".join(peer["routes"]) or "-",
                    "yes" if peer["online"] else "no",
                    _way(peer),
                    _latency(peer["latency_ms"]),
                    str(peer["rx_bytes"]),
                    str(peer["tx_bytes"]),
                ]
                for peer in answer["peers"]
            ],
        )
    if answer["errors"]:
        click.echo()
        for error in answer["errors"]:
            click.echo(f"! {error}")


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
