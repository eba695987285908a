"""One life of the lab: its folder, its processes, and the sweep of lives that ended badly.

Everything the lab makes carries the id of the process that made it. A process that was killed leaves a
folder, namespaces and programs; the next run finds that it is dead and removes them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self

from warren_lab.errors import ProcessError
from warren_lab.net import namespaces
from warren_lab.net.network import remove_namespace
from warren_lab.process import Process, entering, start_time

BASE: Final = Path(os.environ.get("WARREN_LAB_RUN_DIR") or "/var/tmp/warren")
"""On disk, since images are unpacked there, and not below /var/lib, which nodes of clusters see as a copy."""

CLUSTERS: Final = "clusters"
"""The folder of a run that belongs to its clusters; only `cluster.sweep` can end what runs in there."""

WIREGUARD_SOCKETS: Final = Path("/var/run/wireguard")
"""Where userspace WireGuard puts its sockets, named by interface; the lab's begin like its namespaces."""

_PREFIX: Final = re.compile(r"wl(\d+)-")


class Run:
    """A context manager: sweeps, makes a folder, and at the end stops every process and removes the folder.

    SIGTERM ends it like Ctrl-C does, so that nothing stays behind.
    """

    def __init__(self, base: Path = BASE, logs: Path | None = None) -> None:
        self.pid = os.getpid()
        self.prefix = f"wl{self.pid}"
        self.base = base
        self.path = base / str(self.pid)
        self.logs = logs if logs is not None else self.path / "logs"
        self.kept = False
        self._processes: list[Process] = []
        self._previous_handler: object = None

    def __enter__(self) -> Self:
        sweep(self.base)
        self.path.mkdir(parents=True)
        self.path.chmod(0o700)
        self._write_owner()
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, _terminated)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        main = threading.current_thread() is threading.main_thread()
        # A second Ctrl-C must not interrupt the clean-up.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
        try:
            if not self.kept:
                self.close()
        finally:
            if main:
                signal.signal(signal.SIGINT, interrupt)
                if callable(self._previous_handler) or isinstance(self._previous_handler, signal.Handlers):
                    signal.signal(signal.SIGTERM, self._previous_handler)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        namespace: str | None = None,
        own_mounts: bool = False,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Process:
        """Start a program that ends with the run at the latest."""
        process = Process(
            name,
            command,
            log=self.logs / f"{name}.log",
            namespace=namespace,
            own_mounts=own_mounts,
            environment=environment,
            folder=folder,
        )
        self._processes.append(process)
        self.record(process.pid)
        return process

    def call(
        self, command: Sequence[str], *, namespace: str | None = None, timeout_seconds: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a short command to its end and return what it printed."""
        try:
            return subprocess.run(
                entering(command, namespace),
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=timeout_seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProcessError(f"`{' '.join(command)}` failed: {error}") from error

    def record(self, pid: int) -> None:
        """Note a process that a later sweep must end if this run cannot."""
        began = start_time(pid)
        if began is not None:
            with (self.path / "processes").open("a") as listing:
                listing.write(f"{pid} {began}\n")

    def keep(self) -> None:
        """Leave everything as it is when this process ends; ``sweep(kept=True)`` removes it."""
        self.kept = True
        self._write_owner()

    def close(self) -> None:
        """Stop the processes, last started first, and remove the folder."""
        for process in reversed(self._processes):
            process.stop()
        self._processes.clear()
        _remove_folder(self.path)

    def _write_owner(self) -> None:
        owner = {"start": start_time(self.pid), "kept": self.kept}
        (self.path / "owner").write_text(json.dumps(owner))


def sweep(base: Path = BASE, *, kept: bool = False) -> list[str]:
    """Remove what dead runs left behind, with ``kept`` also what was kept on purpose; returns their ids."""
    pids = {entry.name for entry in base.iterdir() if entry.name.isdigit()} if base.exists() else set()
    pids |= {found[1] for name in namespaces.names("wl") if (found := _PREFIX.match(name))}
    dead = sorted(pid for pid in pids if _is_dead(base / pid, kept))
    for pid in dead:
        _end_recorded(base / pid)
        for name in namespaces.names(f"wl{pid}-"):
            remove_namespace(name)
        for socket in WIREGUARD_SOCKETS.glob(f"wl{pid}x*.sock"):
            socket.unlink(missing_ok=True)
        if not (base / pid / CLUSTERS).exists():
            _remove_folder(base / pid)
    return dead


def kept_runs(base: Path = BASE) -> list[str]:
    """The ids of runs that were kept."""
    if not base.exists():
        return []
    return sorted(entry.name for entry in base.iterdir() if entry.name.isdigit() and _owner(entry)[1])


def _owner(folder: Path) -> tuple[int | None, bool]:
    try:
        owner = json.loads((folder / "owner").read_text())
        return owner["start"], owner["kept"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None, False


def _is_dead(folder: Path, kept: bool) -> bool:
    began, is_kept = _owner(folder)
    now = start_time(int(folder.name))
    if is_kept:
        return kept
    # Another process may have got the same id since.
    return now is None or (began is not None and now != began)


def _end_recorded(folder: Path) -> None:
    try:
        lines = (folder / "processes").read_text().split("\n")
    except FileNotFoundError:
        return
    for line in lines:
        words = line.split()
        if len(words) != 2 or start_time(int(words[0])) != int(words[1]):
            continue
        try:
            os.killpg(int(words[0]), signal.SIGKILL)
        except ProcessLookupError:
            continue


def _remove_folder(folder: Path) -> None:
    for mount in mounts_below(folder, Path("/proc/self/mountinfo").read_text()):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Mount points below a folder, deepest first."""
    points = [line.split()[4] for line in mountinfo.splitlines() if len(line.split()) > 4]
    below = {point for point in points if point.startswith(f"{folder}/")}
    return sorted(below, key=len, reverse=True)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
