"""Buildah, with a store of its own below the lab's cache so that the machine's images stay as they are.

The only caller of ``buildah``; knows no image by name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warren_lab.errors import LabError


class ImageError(LabError):
    """An image could not be made; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Build:
    """One call of ``buildah build``."""

    tag: str
    context: Path
    containerfile: str
    """Its text."""
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[Path, str] = field(default_factory=dict)
    """Folders of this machine, read-only, to paths seen by ``RUN``."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where layers are kept."""

    root: Path
    log: Path

    def exists(self, tag: str) -> bool:
        return self._status("inspect", "--type=image", tag) == 0

    def build(self, build: Build) -> None:
        # What a killed build left would stay for ever.
        self._status("rm", "--all")
        command = [
            *("build", "--force-rm", "--layers=false", "--pull=never", "--network=none", "--timestamp=0"),
            *("--tag", build.tag, "--file", "-"),
        ]
        if build.target is not None:
            command += ["--target", build.target]
        for name, value in build.arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        for folder, path in build.mounts.items():
            command += ["--volume", f"{folder}:{path}:ro"]
        self._run(*command, str(build.context), text=build.containerfile)

    def export(self, tag: str, archive: Path) -> None:
        """Write one image as a docker archive."""
        scratch = archive.with_name(archive.name + ".part")
        scratch.unlink(missing_ok=True)
        self._run("push", "--quiet", tag, f"docker-archive:{scratch}:{tag}")
        scratch.rename(archive)

    def tags(self) -> list[str]:
        listed = self._run("images", "--json")
        return [name for image in json.loads(listed) for name in image.get("names") or ()]

    def remove(self, *tags: str) -> None:
        if tags:
            self._status("rmi", "--force", *tags)

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        program = shutil.which("buildah")
        if program is None:
            raise ImageError("buildah is missing: apt-get install buildah")
        self.root.mkdir(parents=True, exist_ok=True)
        # Copying whole layers is the way out where the kernel cannot lay them over each other.
        driver = "overlay" if "\toverlay\n" in Path("/proc/filesystems").read_text() else "vfs"
        return [
            # Mounts that buildah leaves behind end with it.
            *("unshare", "--mount", program),
            *("--root", str(self.root / "layers"), "--runroot", str(self.root / "run")),
            *("--storage-driver", driver, *arguments),
        ]

    def _status(self, *arguments: str) -> int:
        return subprocess.run(
            self._command(arguments), env=_environment(), capture_output=True, check=False
        ).returncode

    def _run(self, *arguments: str, text: str = "") -> str:
        command = self._command(arguments)
        done = subprocess.run(
            command, env=_environment(), input=text, capture_output=True, text=True, check=False
        )
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
        if done.returncode != 0:
            # What a step printed itself is on standard output, between buildah's own lines.
            last = "\n".join([*done.stdout.strip().splitlines()[-5:], *done.stderr.strip().splitlines()[-3:]])
            raise ImageError(f"buildah {arguments[0]} failed: {last}\nmore in {self.log}")
        return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "BUILDAH_ISOLATION": "chroot"}
