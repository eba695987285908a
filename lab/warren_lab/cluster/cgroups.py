"""The control group below which a cluster's containers run: made in every hierarchy, removed from each.

Works with version 1, version 2 and both side by side.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from warren_lab.cluster.spec import ClusterError


def hierarchies(mountinfo: str) -> list[Path]:
    """The roots of all control group hierarchies in a ``mountinfo`` text."""
    found: dict[Path, None] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] in ("cgroup", "cgroup2"):
            found[Path(before.split()[4])] = None
    return list(found)


def create(name: str) -> None:
    """Make the group everywhere."""
    for root in _roots():
        try:
            (root / name).mkdir(exist_ok=True)
        except OSError as error:
            raise ClusterError(f"cannot make the control group {root / name}: {error.strerror}") from error


def remove(name: str, patience_seconds: float = 5.0) -> list[Path]:
    """Remove the group and all below it; returns what could not be removed."""
    deadline = time.monotonic() + patience_seconds
    while True:
        left = [path for root in _roots() for path in _remove_tree(root / name)]
        # A killed process leaves its group a moment after it is gone from view.
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def matching(prefix: str) -> set[str]:
    """Names of top-level groups that begin so."""
    return {path.name for root in _roots() for path in root.glob(prefix + "*") if path.is_dir()}


def _roots() -> list[Path]:
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def _remove_tree(group: Path) -> Iterator[Path]:
    if not group.is_dir():
        return
    for path in [*sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True), group]:
        with contextlib.suppress(FileNotFoundError):
            try:
                path.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                yield path
