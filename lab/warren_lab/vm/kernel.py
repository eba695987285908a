"""Debian's cloud kernel, unpacked beside the lab's other tools and never installed on this machine."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warren_lab import caches
from warren_lab.errors import LabError
from warren_lab.tools.cache import installing, locked
from warren_lab.vm.commands import output_of

META_PACKAGE: Final = "linux-image-cloud-amd64"
MODULE_FOLDERS: Final = (
    "kernel/net",
    "kernel/crypto",
    "kernel/lib",
    "kernel/arch/x86/crypto",
    "kernel/drivers/net/wireguard",
    "kernel/drivers/net/veth.ko",
    "kernel/drivers/net/tun.ko",
    "kernel/drivers/net/dummy.ko",
)
"""What networks of namespaces need; the rest of the modules only cost memory."""


@dataclass(frozen=True, slots=True)
class Kernel:
    folder: Path

    @property
    def release(self) -> str:
        (modules,) = (self.folder / "lib" / "modules").iterdir()
        return modules.name

    @property
    def image(self) -> Path:
        return self.folder / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.folder / "lib" / "modules" / self.release


def vm_root() -> Path:
    return caches.root() / "vm"


def ensure_kernel() -> Kernel:
    """The newest kernel package that apt knows, or one fetched earlier where apt knows none."""
    root = vm_root()
    with locked(root / "lock", lambda: None):
        known = _package()
        kept = sorted(root.glob("kernel-*"))
        if known is None and not kept:
            output_of(["apt-get", "update", "-q"])
            known = _package()
        if known is None and not kept:
            raise LabError(f"apt knows no package {META_PACKAGE}; the virtual machine needs Debian's kernel")
        folder = kept[-1] if known is None else root / f"kernel-{known}"
        if known is not None and not folder.exists():
            _fetch(known, folder)
        return Kernel(folder)


def _package() -> str | None:
    answer = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", META_PACKAGE], capture_output=True, text=True, check=False
    )
    found = re.search(r"^Depends: (linux-image-\S+)", answer.stdout, re.MULTILINE)
    return found.group(1) if found else None


def _fetch(package: str, folder: Path) -> None:
    with installing(folder) as scratch:
        try:
            output_of(["apt-get", "download", "-q", package], folder=scratch)
        except LabError:
            # The package lists may be older than the archive.
            output_of(["apt-get", "update", "-q"])
            output_of(["apt-get", "download", "-q", package], folder=scratch)
        (archive,) = scratch.glob("*.deb")
        output_of(["dpkg-deb", "--extract", str(archive), str(scratch)])
        archive.unlink()
        (release,) = (path.name for path in (scratch / "lib" / "modules").iterdir())
        output_of(["depmod", "--basedir", str(scratch), release])
