"""The relay regions of the mesh."""

from __future__ import annotations

from typing import IO

import click
import yaml

from warren_cli.asking import OUTPUT, Problem, ask, show


@click.group()
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
    show(answer, output, rows, [("ID", "id"), ("CODE", "code"), ("NAME", "name"), ("HOSTS", "hosts")])


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
