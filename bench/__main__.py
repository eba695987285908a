"""`python bench NAME…`: measure against a peer in the same run, write build/bench/NAME.json, print a table.

Figures inform; they never pass or fail on time.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from warren_bench import frame
from warren_lab.errors import LabError

BENCHES: Final = {
    "demo": "the main job: its times, and TCP throughput against stock tailscaled and derper",
    "agent": "the node agent: TCP direct and relayed, start, a path that dies; ours, stock and one of each",
    "kernel_plane": "TCP through kernel WireGuard set up by agents, against WireGuard set by hand, in the VM",
    "relay": "the relay against derper: frames, CPU, latency, memory, TCP of stock clients",
    "relay_life": "a TCP connection over two relays while clients roam and relays are killed",
    "policy": "the policy compiler: full compile, changes and memory, against Headscale's",
    "control": "the control server: joins, changes and memory under a swarm of clients, against Headscale",
}
RESULTS: Final = Path("build/bench")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Alternating runs of each side; medians are shown.",
)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(["joins", "restart", "idle", "churn", "policy"]),
    help="control: only this part; can be repeated.",
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=click.IntRange(2, 20000),
    help="control: this many clients in place of the usual numbers; can be repeated.",
)
@click.option(
    "--churn-minutes",
    type=click.FloatRange(0.1, 600),
    default=15.0,
    show_default=True,
    help="control: how long a week of churn takes.",
)
@click.option("--alone", is_flag=True, help="control: without the peer.")
def main(
    names: tuple[str, ...],
    runs: int,
    parts: tuple[str, ...],
    sizes: tuple[int, ...],
    churn_minutes: float,
    alone: bool,
) -> None:
    """Run the benchmarks NAME... (all, when none is named)."""
    unknown = sorted(set(names) - BENCHES.keys())
    if unknown:
        known = "\n".join(f"  {name}: {what}" for name, what in BENCHES.items())
        click.echo(f"no benchmark {', '.join(unknown)}; there are\n{known}", err=True)
        sys.exit(2)
    # Some sudo and cron settings leave out where Debian keeps nft and conntrack.
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    own = {"parts": parts, "sizes": sizes, "churn_minutes": churn_minutes, "alone": alone}
    options: dict[str, dict[str, Any]] = {"control": own}
    for name in names or BENCHES:
        try:
            rows = importlib.import_module(f"warren_bench.{name}").rows(runs, **options.get(name, {}))
        except LabError as error:
            click.echo(f"bench {name}: {error}", err=True)
            sys.exit(2)
        frame.write(RESULTS / f"{name}.json", rows)
        frame.show(name, rows)


if __name__ == "__main__":
    main()
