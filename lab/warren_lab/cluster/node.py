"""One node as processes: enters the namespaces, runs its first process, executes commands inside.

Knows namespaces, files and signals; not what the programs are.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from warren_lab.cluster import cgroups, seed
from warren_lab.cluster.components import PATH, Component
from warren_lab.cluster.layout import BOUND, OVERLAID, Layout
from warren_lab.cluster.spec import ClusterError
from warren_lab.process import start_time

_INIT: Final = Path(__file__).with_name("node_init.py")


def pending_children(pid: int) -> list[int]:
    """Process ids whose parent is ``pid``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name in parentheses may hold spaces; the parent follows the state after it.
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


@dataclass(slots=True)
class Node:
    """A running node. ``stop`` ends everything that was ever started in it."""

    layout: Layout
    namespace: str
    cgroup: str
    hostname: str
    _process: subprocess.Popen[bytes] | None = None
    _pid: int | None = field(default=None)
    """The node's first process, as this machine numbers it."""

    def boot(
        self,
        files: Mapping[Path, bytes],
        etc: Mapping[str, str],
        settings: Mapping[str, str],
        images: Path,
    ) -> None:
        """Make the folders and start the first process; returns when the file system stands."""
        self._prepare(files, etc, settings)
        seed.plant(images, self.layout.bound("/var/lib/containerd"))
        cgroups.create(self.cgroup)
        command = (
            "nsenter",
            f"--net=/run/netns/{self.namespace}",
            *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL"),
            *(sys.executable, "-I", str(_INIT), str(self.layout.plan)),
        )
        with (self.layout.logs / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the lab, which then ends the node in order.
                start_new_session=True,
            )
        self._await_ready(self._process)

    def start(self, component: Component) -> None:
        """Have the first process run one more program."""
        environment = {"PATH": PATH, "LANG": "C.UTF-8", **dict(component.environment)}
        self._command(
            {
                "start": {
                    "name": component.name,
                    "argv": list(component.argv),
                    "environment": environment,
                    "log": str(self.layout.logs / f"{component.name}.log"),
                }
            }
        )

    def detach(self) -> None:
        """Let the node outlive this process; a later sweep or stop ends it."""
        self._command({"detach": True})
        self.layout.kept.touch()

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` in the node."""
        if self._pid is None or not Path(f"/proc/{self._pid}").exists():
            raise ClusterError(f"node {self.hostname} does not run")
        return [
            *("nsenter", f"--target={self._pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--"),
            *("env", f"PATH={PATH}", *argv),
        ]

    def stop(self) -> None:
        """End all processes and mounts, then remove the control groups and the cluster's folder."""
        if (process := self._process) is not None:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
            self._process = None
        end_node(self.layout, self.cgroup)
        self._pid = None

    def exits(self) -> dict[str, list[str]]:
        """Programs that ended by themselves so far, with the reasons."""
        found: dict[str, list[str]] = {}
        for event in self._events():
            if event.get("event") == "exited":
                found.setdefault(event["name"], []).append(event["reason"])
        return found

    def _prepare(
        self, files: Mapping[Path, bytes], etc: Mapping[str, str], settings: Mapping[str, str]
    ) -> None:
        layout = self.layout
        layout.root.mkdir(parents=True, mode=0o755)
        layout.owner.write_text(f"{os.getpid()} {start_time(os.getpid())}\n")
        folders = [layout.logs, layout.client, *(layout.bound(folder) for folder in BOUND)]
        for folder in OVERLAID:
            folders += [layout.upper(folder), layout.work(folder)]
        for path in folders:
            path.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            target = layout.etc(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch(0o600)
            target.write_bytes(content)
        plan = {
            "hostname": self.hostname,
            "overlays": {
                folder: [str(layout.upper(folder)), str(layout.work(folder))] for folder in OVERLAID
            },
            "binds": {folder: str(layout.bound(folder)) for folder in BOUND},
            "kernel_settings": dict(settings),
            "files": dict(etc),
            "events": str(layout.events),
        }
        layout.plan.write_text(json.dumps(plan))

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 15
        while not any(event.get("event") == "ready" for event in self._events()):
            if process.poll() is not None or time.monotonic() > deadline:
                said = (self.layout.logs / "node.log").read_text(errors="replace").strip()
                raise ClusterError(f"node {self.hostname} did not start: {said or 'no message'}")
            time.sleep(0.01)
        children = pending_children(process.pid)
        if len(children) != 1:
            raise ClusterError(f"node {self.hostname} did not start: no first process")
        self._pid = children[0]
        self.layout.node_pid.write_text(f"{self._pid}\n")

    def _command(self, command: Mapping[str, object]) -> None:
        if self._process is None or self._process.stdin is None:
            raise ClusterError(f"node {self.hostname} does not run")
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def _events(self) -> list[dict[str, str]]:
        try:
            lines = self.layout.events.read_text().split("\n")
        except FileNotFoundError:
            return []
        # What follows the last line end is still being written.
        return [json.loads(line) for line in lines[:-1]]


def end_node(layout: Layout, cgroup: str) -> None:
    """What is left of a node once its owner let go: also for nodes of owners that died."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        pid = int(layout.node_pid.read_text())
        if _is_first_process(pid, layout):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _await_end(pid)
    left = cgroups.remove(cgroup)
    if layout.root.exists():
        shutil.rmtree(layout.root)
    if left:
        raise ClusterError(f"control groups still in use: {', '.join(map(str, left))}")


def _is_first_process(pid: int, layout: Layout) -> bool:
    """Process ids are used again; only the process that was given this cluster's plan is the node's."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(layout.plan).encode() in arguments


def _await_end(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        if not poller.poll(10_000):
            raise ClusterError(f"process {pid} does not end")
    finally:
        os.close(handle)
