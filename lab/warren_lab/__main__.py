"""``warren-lab``: the small internet on one machine, for people."""

from __future__ import annotations

import os
import sys

import click

from warren_lab import cluster
from warren_lab.demo.command import demo
from warren_lab.errors import LabError
from warren_lab.images.build import checkout
from warren_lab.matrix.command import matrix
from warren_lab.net import namespaces
from warren_lab.prepare import prepare
from warren_lab.run import kept_runs, sweep
from warren_lab.tools import commands, ensure
from warren_lab.up import up


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def lab() -> None:
    """Networks, NATs, hosts and small clusters in Linux network namespaces. Needs root."""


lab.add_command(demo)
lab.add_command(matrix)
lab.add_command(up)
lab.add_command(prepare)
lab.add_command(commands.build)
lab.add_command(commands.path)
lab.add_command(commands.clean)


@lab.command()
@click.argument("host", required=False)
def shell(host: str | None) -> None:
    """Open a shell on HOST of a lab that was kept; without HOST, list its hosts."""
    found = {name.split("-", 1)[1]: name for pid in kept_runs() for name in namespaces.names(f"wl{pid}-")}
    if host is None:
        click.echo("\n".join(sorted(found)))
        return
    if host not in found:
        raise LabError(f"no kept lab has a host {host!r}: choose from {', '.join(sorted(found)) or 'none'}")
    program = os.environ.get("SHELL", "/bin/sh")
    os.execvp("nsenter", ["nsenter", f"--net={namespaces.path(found[host])}", "--", program])


# Everything after NAME is kubectl's, its `--` as well.
@lab.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    }
)
@click.argument("name")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(name: str, arguments: tuple[str, ...]) -> None:
    """Run kubectl against cluster NAME of a lab that was kept."""
    for pid in kept_runs():
        kubeconfig = cluster.cluster_dir(name, int(pid)) / "kubeconfig"
        if kubeconfig.is_file():
            program = str(ensure().path("kubectl"))
            enter = ["nsenter", f"--net={namespaces.path(f'wl{pid}-{name}-node')}", "--"]
            os.execvp("nsenter", [*enter, program, f"--kubeconfig={kubeconfig}", *arguments])
    raise LabError(f"no kept lab has a cluster {name!r}: `warren-lab demo --keep` makes home and office")


@lab.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    }
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure against stock programs in the same run: the benchmark's own arguments follow, --help too."""
    os.execv(sys.executable, [sys.executable, str(checkout() / "bench"), *arguments])


@lab.command()
def down() -> None:
    """Remove a lab that was kept, and whatever killed runs left."""
    cluster.sweep()
    removed = sweep(kept=True)
    click.echo(f"removed {len(removed)} lab(s)" if removed else "nothing to remove")


def main() -> None:
    """Run with one line and exit code 2 where the user can fix it."""
    # Some sudo and cron settings leave out where Debian keeps nft and conntrack.
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    try:
        lab(prog_name="warren-lab")
    except LabError as error:
        click.echo(f"warren-lab: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
