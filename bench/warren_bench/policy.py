"""The policy compiler against Headscale's: 200 rules and 50 groups over meshes of growing size.

Each side runs in a process of its own and does the same: reads and compiles the policy, makes every node's
packet filter, finds every node's peers, and takes one change over. Headscale's compiler is its own module,
driven by the small program in `bench/headscale_policy`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import click

from warren_bench import frame
from warren_bench.frame import Row
from warren_bench.policy_mesh import Mesh
from warren_lab.errors import ToolError
from warren_lab.tools import build, cache, catalog, go

SIZES: Final = (1_000, 2_500, 5_000)
# Headscale's time for one filter grows with the mesh; those of all 5,000 nodes would take minutes.
PEER_FILTERS: Final = 100
HERE: Final = Path(__file__).resolve().parents[1]
FIFTH: Final = "<= 0.2"

Figures = Mapping[str, float]


def rows(runs: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as name:
        peer = _build(Path(name))
        found: list[Row] = []
        memory: dict[int, float] = {}
        for size in SIZES:
            stride = max(1, size // PEER_FILTERS)
            click.echo(f"policy: {size} nodes", err=True)
            (ours,) = frame.alternate_many(runs, partial(_ours, size, stride))
            # One run: it takes minutes, and its ratio to ours is far from 1.
            theirs = _peer(peer, size, stride)
            memory[size] = ours["megabytes"]
            found += rows_of(size, ours, theirs)
        least, most = SIZES[0], SIZES[-1]
        growth = memory[most] / memory[least] / (most / least)
        found.append(frame.row(f"memory of {most} by that of {least}, by the ratio of sizes", growth, ""))
        return found


def rows_of(size: int, ours: Figures, theirs: Figures) -> list[Row]:
    """One size; figures of two sides that did not compile the same are worth nothing."""
    for count in ("rules", "pairs"):
        if ours[count] != theirs[count]:
            raise ToolError(f"the two sides differ in {count}: {ours[count]:.0f} and {theirs[count]:.0f}")

    def one(work: str, *names: str, unit: str = "s", goal: str | None = None) -> Row:
        mine, there = (sum(side[name] for name in names) for side in (ours, theirs))
        return frame.row(f"{size}: {work}", mine, unit, peer=there, peer_name="headscale", goal=goal)

    return [
        one("read and compile", "compile"),
        one("every node's packet filter", "filters"),
        one("every node's peers", "peers"),
        one("full compile: all of these", "compile", "filters", "peers", goal=FIFTH),
        one("one node's tags change", "tag", goal=FIFTH),
        one("one node's endpoint changes", "endpoint"),
        frame.row(f"{size}: memory of rules and filters", ours["megabytes"], "MB"),
    ]


def _ours(size: int, stride: int) -> Figures:
    command = [sys.executable, "-m", "warren_bench.policy_ours", str(size), str(stride)]
    return _figures(subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False))


def _peer(program: Path, size: int, stride: int) -> Figures:
    given = Mesh(size).as_json(stride)
    return _figures(subprocess.run([program], input=given, capture_output=True, text=True, check=False))


def _figures(done: subprocess.CompletedProcess[str]) -> Figures:
    if done.returncode != 0:
        raise ToolError(done.stderr[-2000:])
    found: Figures = json.loads(done.stdout)
    return found


def _build(folder: Path) -> Path:
    """Our program against the Headscale that the lab pins."""
    pinned = cache.definitions() / catalog.HEADSCALE.name
    for file in (pinned / "go.mod", pinned / "go.sum", HERE / "headscale_policy" / "main.go"):
        shutil.copy(file, folder)
    log = folder / "build.log"
    log.touch()
    toolchain = go.find(go.needed((pinned / "go.mod").read_text()), log)
    click.echo(f"policy: building Headscale's compiler {build.module_version(catalog.HEADSCALE)}", err=True)
    done = subprocess.run(
        [str(toolchain.program), "build", "-o", "compiler", "."],
        cwd=folder,
        env=toolchain.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ToolError(f"Headscale's compiler was not built: {done.stderr[-2000:]}")
    return folder / "compiler"
