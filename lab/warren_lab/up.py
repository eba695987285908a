"""`warren-lab up`: a small mesh on a small internet that stays, to look around in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from warren_lab import preflight, tools
from warren_lab.errors import LabError
from warren_lab.hosts.port_mapper import PortMapper
from warren_lab.matrix.cells import Place, kinds_named, topology
from warren_lab.matrix.kinds import KINDS
from warren_lab.matrix.measure import GROUPS
from warren_lab.scenario.nodes import OurNode, Side, StockNode
from warren_lab.scenario.overlay import Overlay
from warren_lab.tools import Printer

NEEDS: Final = ("network", "nat")


@click.command()
@click.option(
    "--ours",
    multiple=True,
    default=("easy", "easy"),
    show_default=True,
    metavar="NAT",
    help=f"A host with warren-agent, attached like this: {', '.join(KINDS)}. Repeat it for more.",
)
@click.option(
    "--stock",
    multiple=True,
    default=("hard",),
    show_default=True,
    metavar="NAT",
    help="A host with stock tailscaled. Repeat it for more.",
)
def up(ours: tuple[str, ...], stock: tuple[str, ...]) -> None:
    """Start a control server, two relays and hosts behind NATs as one mesh, and leave it running.

    `warren-lab shell HOST` opens a shell on a host, `warren-lab down` removes everything.
    """
    where = places(ours, stock)
    if problems := preflight.ensure(NEEDS):
        raise LabError("; ".join(map(str, problems)))
    toolbox = tools.ensure(GROUPS, Printer())
    with Overlay(topology(where), toolbox) as overlay:
        for place in where:
            if place.kind.maps_ports:
                PortMapper(overlay.run, overlay.network, place.router)
        overlay.join(
            {place.host: place.side for place in where}, say=lambda host: click.echo(f"{host} joined")
        )
        for place in where:
            click.echo(f"\n{place.host}: {overlay.nodes[place.host].address}, behind {place.kind.name}")
            click.echo(f"  $ warren-lab shell {place.host}")
            click.echo(f"  # {' '.join(_look(overlay, place))}")
        overlay.keep()
    click.echo("\n`warren-lab shell` lists all hosts; `warren-lab down` removes everything.")


def places(ours: Sequence[str], stock: Sequence[str]) -> tuple[Place, ...]:
    """Where each host is; their names are numbered. Raises `LabError` for an unknown kind."""
    wanted = [(Side.OURS, name) for name in ours] + [(Side.STOCK, name) for name in stock]
    return tuple(
        Place(f"h{number}", kinds_named(name)[0], side) for number, (side, name) in enumerate(wanted, start=1)
    )


def _look(overlay: Overlay, place: Place) -> list[str]:
    node = overlay.nodes[place.host]
    if isinstance(node, OurNode):
        return node.agent.command("status")
    assert isinstance(node, StockNode)
    return node.daemon.command("status")
