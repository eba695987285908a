"""Where runs of the lab keep their clusters, and how the remains of dead ones are removed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from warren_lab.cluster import cgroups
from warren_lab.cluster.cluster import cgroup_name
from warren_lab.cluster.layout import Layout
from warren_lab.cluster.node import end_node


def runs_root() -> Path:
    """``$WARREN_LAB_RUN_DIR`` or ``/var/tmp/warren-lab``: on disk, since images are unpacked there."""
    return Path(os.environ.get("WARREN_LAB_RUN_DIR") or "/var/tmp/warren-lab")


def cluster_dir(name: str, pid: int | None = None) -> Path:
    """The folder of one cluster of one run."""
    return runs_root() / str(os.getpid() if pid is None else pid) / name


def finish_run(pid: int | None = None) -> None:
    """Remove the folder of a run whose clusters are stopped."""
    with contextlib.suppress(FileNotFoundError, OSError):
        (runs_root() / str(os.getpid() if pid is None else pid)).rmdir()
    with contextlib.suppress(OSError):
        runs_root().rmdir()


def sweep() -> list[str]:
    """Remove clusters of runs whose process is gone; returns what was removed, as ``pid/name``."""
    removed = []
    root = runs_root()
    for run in sorted(root.iterdir()) if root.is_dir() else []:
        if not run.name.isdigit() or Path("/proc", run.name).exists():
            continue
        removed += [end_cluster(folder) for folder in sorted(run.iterdir())]
        finish_run(int(run.name))
    for group in sorted(cgroups.matching("warren-lab-")):
        pid = group.removeprefix("warren-lab-").split("-", 1)[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            cgroups.remove(group)
    return removed


def end_cluster(folder: Path) -> str:
    """End one cluster by its folder alone, whoever started it."""
    end_node(Layout(folder), cgroup_name(folder))
    return f"{folder.parent.name}/{folder.name}"
