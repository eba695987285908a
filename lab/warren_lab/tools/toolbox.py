"""The door for the rest of the lab: ask for groups of programs, get paths to run.

Decides what is built in which order; how is :mod:`warren_lab.tools.build`'s.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from warren_lab.errors import ToolError
from warren_lab.tools import build, cache, go, progress
from warren_lab.tools.catalog import DEFAULT_GROUPS, STOCK, Family, Source, Wheel, groups_of, sources
from warren_lab.tools.progress import Estimate, Progress, State, Step


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Programs that are there."""

    programs: Mapping[str, Path]
    folders: Mapping[str, Path]
    """Source name to folder, for those who want all its programs (CNI plugins)."""

    def path(self, program: str, release: str | None = None) -> Path:
        """Where a program is; with a ``release``, that of :data:`STOCK`."""
        if release is not None:
            if release not in STOCK:
                raise ToolError(f"unknown release {release!r}: choose from {', '.join(STOCK)}")
            return self.folder(STOCK[release].name) / program
        found = self.programs.get(program)
        if found is None:
            groups = groups_of(program)
            hint = f"ask for the group {' or '.join(groups)}" if groups else "no group of the lab holds it"
            raise ToolError(f"{program} is not in this toolbox: {hint}")
        return found

    def folder(self, source: str) -> Path:
        """The folder of one source."""
        if source not in self.folders:
            raise ToolError(f"{source} is not in this toolbox")
        return self.folders[source]


@dataclass(slots=True)
class _Run:
    """One call of :func:`ensure`: numbers the steps and reports them."""

    progress: Progress
    todo: Sequence[Source]
    estimate: Estimate
    clock: Callable[[], float]
    began: float

    def report(self, index: int, state: State, fraction: float, step_seconds: float) -> None:
        source = self.todo[index]
        self.progress(
            Step(
                name=source.name,
                programs=tuple(source.programs),
                number=index + 1,
                count=len(self.todo),
                state=state,
                fraction=fraction,
                step_seconds=step_seconds,
                elapsed_seconds=self.clock() - self.began,
                remaining_seconds=self.estimate.remaining(index, fraction),
            )
        )


def ensure(
    groups: Sequence[str] = DEFAULT_GROUPS,
    progress: Progress = progress.quiet,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Toolbox:
    """Build what is missing, one source after another, and return where everything is."""
    wanted = sources(groups)
    families = [source for source in wanted if isinstance(source, Family)]
    toolchain = _toolchain(families)
    targets = {source.name: cache.cache_root() / build.key(source, toolchain) for source in wanted}
    todo = [source for source in wanted if not targets[source.name].exists() and not _from_host(source)]
    estimate = Estimate(tuple(source.seconds for source in todo))
    run = _Run(progress, todo, estimate, clock, clock())
    later = [source for source in todo if isinstance(source, Family)][1:]
    if later and toolchain is not None:
        build.prefetch(later, toolchain, build.log_file(later[0]).with_name("prefetch.log"))
    for index, source in enumerate(todo):
        _one(run, index, source, toolchain, targets[source.name])
    return _toolbox(wanted, targets)


def _one(run: _Run, index: int, source: Source, toolchain: go.Go | None, target: Path) -> None:
    lock = target.with_name(target.name + ".lock")
    with cache.locked(lock, lambda: run.report(index, State.WAITING, 0, 0)):
        if target.exists():
            run.report(index, State.CACHED, 1, 0)
            return
        began = run.clock()
        run.report(index, State.RUNNING, 0, 0)
        try:
            build.install(
                source,
                toolchain,
                target,
                build.log_file(source),
                lambda fraction: run.report(index, State.RUNNING, fraction, run.clock() - began),
            )
        except ToolError:
            run.report(index, State.FAILED, 0, run.clock() - began)
            raise
        run.estimate.finished(index, run.clock() - began)
        run.report(index, State.READY, 1, run.clock() - began)


def _toolchain(families: Sequence[Family]) -> go.Go | None:
    if not families:
        return None
    least = max(go.needed((build.module_folder(family) / "go.mod").read_text()) for family in families)
    logs = cache.cache_root() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return go.find(least, logs / "go.log")


def _from_host(source: Source) -> bool:
    """The wheels carry x86-64 programs; elsewhere the host's own programs are taken."""
    return isinstance(source, Wheel) and platform.machine() not in ("x86_64", "AMD64")


def _toolbox(wanted: Sequence[Source], targets: Mapping[str, Path]) -> Toolbox:
    programs: dict[str, Path] = {}
    # Programs built from source win over the older ones in wheels.
    for source in sorted(wanted, key=lambda source: isinstance(source, Family)):
        if isinstance(source, Family) and source.aside:
            continue
        for name in source.programs:
            if not _from_host(source):
                programs[name] = targets[source.name] / name
            elif (found := shutil.which(name)) is not None:
                programs[name] = Path(found)
    folders = {source.name: targets[source.name] for source in wanted if not _from_host(source)}
    return Toolbox(programs, folders)
