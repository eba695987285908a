"""One run of the virtual machine: it boots, does its task, tells results on a serial port, and ends."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warren_lab.errors import LabError
from warren_lab.process import Process
from warren_lab.vm.image import SOURCES, Image, write_task

MEMORY_MIB: Final = 1792
PROCESSORS: Final = 2
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Finished:
    """What a machine left: lines of its second serial port, and the text of its console."""

    results: tuple[str, ...]
    console: str


def run(
    image: Image, folders: Mapping[Path, str], command: str, *, logs: Path, timeout_seconds: float
) -> Finished:
    """Boot, run a shell command with Python sources in place, and return once the machine is off.

    The command writes results to /dev/ttyS1. Software emulation: where KVM exists it may hang all the same.
    """
    logs.mkdir(parents=True, exist_ok=True)
    console, results = logs / "console.log", logs / "results.log"
    with tempfile.TemporaryDirectory(prefix="warren-vm-") as scratch:
        initramfs = Path(scratch) / "initramfs"
        _join(image, initramfs, folders, command)
        machine = Process(
            "virtual machine",
            [
                *("nice", "-n", "5", "qemu-system-x86_64"),
                *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(PROCESSORS)),
                *("-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-kernel", str(image.kernel.image), "-initrd", str(initramfs)),
                *("-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off nokaslr"),
                *("-serial", f"file:{console}", "-serial", f"file:{results}"),
            ],
            log=logs / "machine.log",
        )
        try:
            deadline = time.monotonic() + timeout_seconds
            while machine.running:
                if time.monotonic() > deadline:
                    raise LabError(
                        f"the virtual machine was not done after {timeout_seconds:.0f} s;"
                        f" its console ends with:\n{_tail(console)}"
                    )
                time.sleep(_POLL_SECONDS)
            if machine.exit_code != 0:
                raise LabError(f"qemu ended with code {machine.exit_code}: {machine.tail()}")
        finally:
            machine.kill()
    lines = results.read_text(errors="replace").splitlines() if results.exists() else []
    return Finished(tuple(lines), console.read_text(errors="replace"))


def _join(image: Image, target: Path, folders: Mapping[Path, str], command: str) -> None:
    task = target.with_suffix(".task")
    paths = ":".join([f"/{SOURCES}/{name}" for name in folders.values()] + ["/opt/site-packages"])
    environment = f"export PYTHONPATH={paths} HOME=/root LANG=C.UTF-8 PATH=/bin\n"
    write_task(task, folders, environment + command + "\n")
    with target.open("wb") as stream:
        for part in (*image.parts, task):
            stream.write(part.read_bytes())


def _tail(path: Path) -> str:
    text = path.read_text(errors="replace") if path.exists() else ""
    return "\n".join(text.splitlines()[-40:])
