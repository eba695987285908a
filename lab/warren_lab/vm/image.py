"""Kernel and initramfs of the guest: a large part that changes rarely and is kept, and a small one on top."""

from __future__ import annotations

import os
import py_compile
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from warren_lab.tools.cache import fingerprint, installing, locked
from warren_lab.vm import contents
from warren_lab.vm.archive import Archive
from warren_lab.vm.kernel import Kernel, ensure_kernel, vm_root

SOURCES: Final = "opt/warren"
KEPT_BASES: Final = 2
"""Two, so that work in two checkouts does not build in turns."""
DISTRIBUTIONS: Final = ("warren[control,agent,lab]", "pytest", "pytest-asyncio", "pytest-timeout")
INIT: Final = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/net /dev/pts /dev/shm /run /tmp
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm
echo /bin/modprobe > /proc/sys/kernel/modprobe
mkdir -p /run/netns
ip link set lo up
modprobe -a tun veth bridge nf_tables
stty -F /dev/ttyS1 raw
. /etc/task
echo o > /proc/sysrq-trigger
sleep 100
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What a machine boots; `parts` follow each other as its initramfs."""

    kernel: Kernel
    parts: tuple[Path, ...]


def ensure_image(say: Callable[[str], None]) -> Image:
    """The kernel and the part that is kept; built where it is missing."""
    kernel = ensure_kernel()
    installed = sorted(f"{item.metadata['Name']} {item.version}" for item in metadata.distributions())
    code = Path(__file__).with_name("contents.py").read_bytes()
    texts = [kernel.folder.name, sys.version, *installed, *contents.bench_programs()]
    name = fingerprint([code, *map(str.encode, texts)])
    folder = vm_root() / f"base-{name}"
    with locked(vm_root() / "lock", lambda: say("another process builds the virtual machine's image")):
        if not folder.exists():
            say("building the virtual machine's image, about 10 s")
            with installing(folder) as scratch:
                _build_base(scratch / "base.cpio", kernel)
        os.utime(folder)
        _drop_older()
    return Image(kernel, (folder / "base.cpio",))


def _drop_older() -> None:
    """A base is some 280 MB, and a new one comes with each change of the dependencies."""
    kept = sorted(vm_root().glob("base-*"), key=lambda folder: folder.stat().st_mtime)
    for folder in kept[:-KEPT_BASES]:
        shutil.rmtree(folder, ignore_errors=True)


def _build_base(path: Path, kernel: Kernel) -> None:
    with path.open("wb") as stream:
        archive = Archive(stream)
        archive.add_bytes("init", INIT.encode(), mode=0o755)
        for folder in ("proc", "sys", "dev", "run", "tmp", "var/lib", "root"):
            archive.add_folder(folder)
        archive.add_device("dev/console", 5, 1)
        archive.add_link("var/run", "/run")
        archive.add_link("sbin", "bin")
        archive.add_link("usr/bin", "/bin")
        archive.add_link("usr/sbin", "/bin")
        archive.add_bytes("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        archive.add_bytes("etc/group", b"root:x:0:\n")
        archive.add_bytes("etc/hosts", b"127.0.0.1 localhost\n")
        contents.add_modules(archive, kernel)
        native = contents.add_programs(archive)
        native += contents.add_python(archive, DISTRIBUTIONS)
        contents.add_libraries(archive, native)
        archive.close()


def write_task(path: Path, folders: Mapping[Path, str], command: str) -> None:
    """The part on top: Python sources below `SOURCES`, compiled here, and what the guest runs.

    Compiling in the guest would take longer than everything else.
    """
    with path.open("wb") as stream, tempfile.TemporaryDirectory() as scratch:
        archive = Archive(stream)
        for folder, name in folders.items():
            for source in sorted(folder.rglob("*")):
                if source.is_file() and "__pycache__" not in source.parts:
                    inside = f"{SOURCES}/{name}/{source.relative_to(folder)}"
                    archive.add_file(inside, source)
                    if source.suffix == ".py":
                        _add_compiled(archive, inside, source, Path(scratch) / "module.pyc")
        archive.add_bytes("etc/task", command.encode())
        archive.close()


def _add_compiled(archive: Archive, inside: str, source: Path, scratch: Path) -> None:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), str(scratch), f"/{inside}", doraise=True, invalidation_mode=mode)
    folder = inside.rpartition("/")[0]
    archive.add_file(f"{folder}/__pycache__/{source.stem}.{sys.implementation.cache_tag}.pyc", scratch)
