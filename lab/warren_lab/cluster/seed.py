"""containerd's folder with images already in it, made once for an archive and then shared by hard links.

Importing half a gigabyte takes seconds and the disk's whole attention; linking its files takes half a second.
What containers write goes to layers above, so linked files never change.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from warren_lab import caches
from warren_lab.cluster.components import PATH
from warren_lab.cluster.spec import ClusterError

ProgramPath = Callable[[str], Path]

KEPT: Final = 2
"""So many seeds stay: that of the product and that of a test."""


def seeds_root() -> Path:
    """Where unpacked images lie, ready to be planted."""
    return caches.root() / "seeds"


def ensure(archive: Path, path: ProgramPath, say: Callable[[str], None], root: Path | None = None) -> Path:
    """The seed of an archive; made if it is not there. Archives are named after their content."""
    folder = root or seeds_root()
    folder.mkdir(parents=True, exist_ok=True)
    version = path("containerd").parent.name
    seed = folder / f"{archive.stem}-{version}"
    with (folder / "lock").open("w") as handle:
        # Two clusters that start at once need the same one.
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not seed.is_dir():
            began = time.monotonic()
            say("images: unpacking them once for all nodes")
            _make(archive, seed, path)
            say(f"images: unpacked after {time.monotonic() - began:.0f} s")
        seed.touch()
        by_age = sorted(
            (entry for entry in folder.iterdir() if entry.is_dir()), key=lambda entry: -entry.stat().st_mtime
        )
        for old in by_age[KEPT:]:
            shutil.rmtree(old)
    return seed


def plant(seed: Path, target: Path) -> None:
    """Make ``target`` a containerd folder of its own with the seed's content."""
    linked = subprocess.run(
        ["cp", "--archive", "--link", f"{seed}/.", str(target)], capture_output=True, text=True, check=False
    )
    if linked.returncode != 0:
        # Another file system: the same content, at the price of copying it.
        shutil.rmtree(target)
        target.mkdir()
        subprocess.run(["cp", "--archive", "--reflink=auto", f"{seed}/.", str(target)], check=True)
        return
    for database in target.rglob("*.db"):
        # The only files that are written in place.
        own = database.with_suffix(".own")
        shutil.copyfile(database, own)
        own.rename(database)


def _make(archive: Path, seed: Path, path: ProgramPath) -> None:
    for leftover in seed.parent.glob(".*.part"):
        shutil.rmtree(leftover)
    scratch = seed.with_name(f".{seed.name}.part")
    scratch.mkdir()
    # Sockets need short paths, which a home folder may not have.
    with tempfile.TemporaryDirectory(prefix="warren-seed-") as short:
        state = Path(short)
        config = state / "config.toml"
        config.write_text(_configuration(scratch, state))
        with (state / "containerd.log").open("wb") as log:
            daemon = subprocess.Popen(
                [
                    *("unshare", "--mount", "--fork", "--kill-child=KILL"),
                    *(str(path("containerd")), f"--config={config}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": PATH},
                start_new_session=True,
            )
        try:
            _import(archive, state, path, daemon)
        finally:
            _end(daemon)
    scratch.rename(seed)


def _configuration(root: Path, state: Path) -> str:
    unused = (
        "io.containerd.cri.v1.images",
        "io.containerd.cri.v1.runtime",
        "io.containerd.grpc.v1.cri",
        "io.containerd.nri.v1.nri",
        "io.containerd.snapshotter.v1.blockfile",
        "io.containerd.snapshotter.v1.btrfs",
        "io.containerd.snapshotter.v1.devmapper",
        "io.containerd.snapshotter.v1.erofs",
        "io.containerd.snapshotter.v1.zfs",
    )
    disabled = ", ".join(f'"{name}"' for name in unused)
    return (
        f'version = 3\nroot = "{root}"\nstate = "{state}/state"\n'
        f"disabled_plugins = [{disabled}]\n"
        f'[grpc]\naddress = "{state}/containerd.sock"\n'
        "[plugins.'io.containerd.metadata.v1.bolt']\nno_sync = true\n"
    )


def _import(archive: Path, state: Path, path: ProgramPath, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not (state / "containerd.sock").exists():
        if daemon.poll() is not None or time.monotonic() > deadline:
            said = (state / "containerd.log").read_text(errors="replace").splitlines()[-3:]
            raise ClusterError("containerd does not start: " + " / ".join(said))
        time.sleep(0.02)
    done = subprocess.run(
        [
            *(str(path("ctr")), f"--address={state}/containerd.sock", "--namespace=k8s.io"),
            *("images", "import", "--local", str(archive)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ClusterError(f"{archive} cannot be imported: {done.stderr.strip()[-500:]}")


def _end(daemon: subprocess.Popen[bytes]) -> None:
    """In order, so that its databases are whole."""
    os.killpg(daemon.pid, 15)
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, 9)
        daemon.wait()
