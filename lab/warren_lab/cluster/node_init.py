"""The first process of a node: makes the node's file system, then starts and restarts its programs.

It runs as process 1 of fresh mount, process, UTS and IPC namespaces, so that its end, however it comes, ends
every program, shim, container and mount of the node. It stands alone (standard library only, run by path) and
knows nothing of Kubernetes: ``node_init.py PLAN`` reads a plan, then commands as JSON lines from standard
input. End of input ends the node, unless it was told to ``detach``.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

RESTART_SECONDS = (0.2, 1.0, 3.0, 10.0)


@dataclass(slots=True)
class Program:
    """One supervised program."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    log: str
    exits: int = 0


@dataclass(slots=True)
class Supervisor:
    """Starts what it is told to, reaps everything, restarts what ended."""

    events: Path
    running: dict[int, Program] = field(default_factory=dict)
    waiting: list[tuple[float, Program]] = field(default_factory=list)
    detached: bool = False

    def run(self) -> None:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        selector = selectors.DefaultSelector()
        selector.register(wake_read, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        buffered = b""
        self.note({"event": "ready"})
        while True:
            for key, _ in selector.select(self.next_timeout()):
                if key.fd == wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                    continue
                data = os.read(0, 65536)
                if not data:
                    if not self.detached:
                        return
                    selector.unregister(0)
                *lines, buffered = (buffered + data).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))
            self.reap()
            self.restart()

    def next_timeout(self) -> float | None:
        if not self.waiting:
            return None
        return max(0.0, min(due for due, _ in self.waiting) - time.monotonic())

    def obey(self, command: dict[str, object]) -> None:
        if command.get("detach"):
            self.detached = True
            return
        started = command["start"]
        assert isinstance(started, dict)
        self.start(Program(started["name"], started["argv"], started["environment"], started["log"]))

    def start(self, program: Program) -> None:
        output = os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open("/dev/null", os.O_RDONLY)
        try:
            pid = os.posix_spawn(
                program.argv[0],
                program.argv,
                program.environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            self.failed(program, f"cannot be run: {error.strerror}")
        else:
            self.running[pid] = program
        finally:
            os.close(output)
            os.close(null)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # Orphans of the shims end here too; only the node's own programs are restarted.
            if (program := self.running.pop(pid, None)) is not None:
                self.failed(program, f"ended with {os.waitstatus_to_exitcode(status)}")

    def failed(self, program: Program, reason: str) -> None:
        self.note({"event": "exited", "name": program.name, "reason": reason})
        pause = RESTART_SECONDS[min(program.exits, len(RESTART_SECONDS) - 1)]
        program.exits += 1
        self.waiting.append((time.monotonic() + pause, program))

    def restart(self) -> None:
        now = time.monotonic()
        due = [program for at, program in self.waiting if at <= now]
        self.waiting = [(at, program) for at, program in self.waiting if at > now]
        for program in due:
            self.start(program)

    def note(self, event: dict[str, str]) -> None:
        with self.events.open("a") as stream:
            stream.write(json.dumps(event) + "\n")


def prepare(plan: dict[str, object]) -> None:
    """The node's own view of the file system; every mount made here ends with the namespace."""
    _release_namespaces()
    _run("mount", "-t", "proc", "proc", "/proc")
    for folder, (upper, work) in _pairs(plan["overlays"]):
        _run(
            *("mount", "-t", "overlay", "overlay"),
            *("-o", f"lowerdir={folder},upperdir={upper},workdir={work}", folder),
        )
    for target, (source,) in _pairs(plan["binds"]):
        Path(target).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", source, target)
    _run("mount", "-t", "tmpfs", "-o", "mode=0755,size=256m", "tmpfs", "/run")
    settings = Path("/run/kernel-settings")
    settings.mkdir()
    for path, (value,) in _pairs(plan["kernel_settings"]):
        # The kubelet would write these for the whole machine; here it finds them set.
        if Path(path).exists():
            cover = settings / path.strip("/").replace("/", ".")
            cover.write_text(value + "\n")
            _run("mount", "--bind", str(cover), path)
    for path, (content,) in _pairs(plan["files"]):
        target_file = Path(path)
        # A link of the machine, such as resolv.conf, may lead into the hidden /run.
        target_file.unlink(missing_ok=True)
        target_file.write_text(content)
    socket.sethostname(str(plan["hostname"]))
    _run("mount", "--make-rshared", "/")


def _release_namespaces() -> None:
    """Let go of bound namespaces, or those would outlive their removal on the machine."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.startswith("nsfs "):
            subprocess.run(["umount", "--lazy", fields.split()[4]], check=False, stderr=subprocess.DEVNULL)


def _pairs(value: object) -> list[tuple[str, list[str]]]:
    assert isinstance(value, dict)
    return [
        (str(key), list(entry) if isinstance(entry, list) else [str(entry)]) for key, entry in value.items()
    ]


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    prepare(plan)
    Supervisor(Path(plan["events"])).run()


if __name__ == "__main__":
    main()
