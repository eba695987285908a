"""What the guest gets of this machine: programs with their libraries, Python, and installed packages."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from warren_lab.errors import LabError
from warren_lab.vm.archive import Archive
from warren_lab.vm.commands import output_of
from warren_lab.vm.kernel import MODULE_FOLDERS, Kernel

PROGRAMS: Final = ("busybox", "ip", "nft", "wg", "nsenter", "unshare", "conntrack", "modprobe", "sysctl")
BENCH_PROGRAMS: Final = ("iperf3",)
"""Only a benchmark wants them, so a machine without them still makes an image."""
LIBRARIES: Final = ("libnftables.so.1",)
"""Opened by name at run time, so that no program's list of libraries names them."""
SITE: Final = "opt/site-packages"
_SKIPPED_STDLIB: Final = frozenset(
    ("test", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo", "site-packages")
)
_SKIPPED_SUFFIXES: Final = frozenset((".a", ".h", ".pyi", ".pxd", ".pyx", ".c", ".exe"))
_LIBRARY_LINE: Final = re.compile(r"(?:=> )?(/\S+) \(0x")


def add_modules(archive: Archive, kernel: Kernel) -> None:
    target = f"lib/modules/{kernel.release}"
    for index in kernel.modules.glob("modules.*"):
        archive.add_file(f"{target}/{index.name}", index)
    for name in MODULE_FOLDERS:
        path = kernel.modules / name
        for module in [path] if path.is_file() else sorted(path.rglob("*.ko")):
            archive.add_file(f"{target}/{module.relative_to(kernel.modules)}", module)


def bench_programs() -> list[str]:
    """Those of them that this machine has."""
    return [name for name in BENCH_PROGRAMS if _where(name) is not None]


def _where(name: str) -> str | None:
    return shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")


def add_programs(archive: Archive) -> list[Path]:
    """Programs and libraries opened by name; gives what must be asked for its libraries."""
    found = []
    for name in (*PROGRAMS, *bench_programs()):
        path = _where(name)
        if path is None:
            raise LabError(f"the program {name} is missing; run warren-lab prepare")
        archive.add_file(f"bin/{name}", Path(path).resolve())
        found.append(Path(path).resolve())
    listing = output_of(["ldconfig", "-p"])
    for name in LIBRARIES:
        match = re.search(rf"{re.escape(name)} .*=> (\S+)", listing)
        if match is None:
            raise LabError(f"the library {name} is missing; run warren-lab prepare")
        archive.add_file(match.group(1), Path(match.group(1)).resolve())
        found.append(Path(match.group(1)))
    return found


def add_python(archive: Archive, distributions: Iterable[str]) -> list[Path]:
    """This interpreter at its own path, its library, and the packages; gives what has libraries."""
    base = Path(sys.base_prefix)
    program = Path(sys.executable).resolve()
    archive.add_file(str(program), program)
    archive.add_link("bin/python3", str(program))
    native = [program]
    library = base / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in _wanted(library.rglob("*")):
        first = path.relative_to(library).parts[0]
        if first in _SKIPPED_STDLIB or first.startswith("config-"):
            continue
        archive.add_file(str(path), path)
        if path.suffix == ".so":
            native.append(path)
    for name in sorted(_closure(distributions)):
        native += _add_distribution(archive, name)
    return native


def _wanted(paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in sorted(paths) if path.is_file() and path.suffix not in _SKIPPED_SUFFIXES)


def _closure(distributions: Iterable[str]) -> set[str]:
    """Distributions and all that they need here."""
    names: set[str] = set()
    waiting = list(distributions)
    while waiting:
        wanted = Requirement(waiting.pop())
        key = wanted.name.lower()
        if key in names:
            continue
        names.add(key)
        for text in metadata.requires(wanted.name) or ():
            needed = Requirement(text)
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(str(needed))
    return names


def _add_distribution(archive: Archive, name: str) -> list[Path]:
    native = []
    for entry in metadata.files(name) or ():
        path = Path(str(entry.locate()))
        # Scripts lie outside of the packages' folder, and an editable package has only a pointer.
        if ".." in entry.parts or entry.suffix == ".pth" or not path.is_file():
            continue
        if path.suffix in _SKIPPED_SUFFIXES:
            continue
        archive.add_file(f"{SITE}/{entry}", path)
        if ".so" in path.suffixes:
            native.append(path)
    return native


def add_libraries(archive: Archive, native: Iterable[Path]) -> None:
    """The shared libraries that these files load, at the paths where the loader found them."""
    libraries = set()
    for path in native:
        libraries |= {Path(found) for found in _LIBRARY_LINE.findall(_ldd(path))}
    for path in sorted(libraries):
        archive.add_file(str(path), path.resolve())


def _ldd(path: Path) -> str:
    try:
        return output_of(["ldd", str(path)])
    except LabError:
        # A program without libraries.
        return ""
