"""Where runs of the lab keep their clusters, and how the remains of dead ones are removed."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from warren_lab.cluster import cgroups
from warren_lab.cluster.cluster import CGROUP_PREFIX, cgroup_name
from warren_lab.cluster.layout import Layout
from warren_lab.cluster.node import end_node
from warren_lab.process import start_time
from warren_lab.run import BASE, CLUSTERS


def cluster_dir(name: str, pid: int | None = None) -> Path:
    """The folder of one cluster of one run."""
    return BASE / str(os.getpid() if pid is None else pid) / CLUSTERS / name


def finish_run(pid: int | None = None) -> None:
    """Remove the folder of a run whose clusters are stopped."""
    run = BASE / str(os.getpid() if pid is None else pid)
    for folder in (run / CLUSTERS, run, BASE):
        with contextlib.suppress(OSError):
            folder.rmdir()


def sweep(*, kept: bool = True) -> list[str]:
    """Remove clusters whose process is gone; returns what was removed, as ``pid/name``.

    With ``kept=False`` those stay that were kept on purpose.
    """
    removed = []
    for clusters in sorted(BASE.glob(f"[0-9]*/{CLUSTERS}")):
        removed += [
            end_cluster(folder)
            for folder in sorted(clusters.iterdir())
            if _is_abandoned(Layout(folder)) and (kept or not Layout(folder).kept.exists())
        ]
        finish_run(int(clusters.parent.name))
    for group in sorted(cgroups.matching(CGROUP_PREFIX)):
        pid, _, name = group.removeprefix(CGROUP_PREFIX).partition("-")
        ended = pid.isdigit() and start_time(int(pid)) is None
        if ended and not cluster_dir(name, int(pid)).exists():
            cgroups.remove(group)
    return removed


def _is_abandoned(layout: Layout) -> bool:
    try:
        pid, began = layout.owner.read_text().split()
    except (FileNotFoundError, ValueError):
        # Without its first file it never got further than making folders, unless it is just doing so.
        return time.time() - layout.root.stat().st_mtime > 10
    return str(start_time(int(pid))) != began


def end_cluster(folder: Path) -> str:
    """End one cluster by its folder alone, whoever started it."""
    end_node(Layout(folder), cgroup_name(folder))
    return f"{folder.parent.parent.name}/{folder.name}"
