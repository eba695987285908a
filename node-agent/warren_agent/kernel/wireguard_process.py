"""The userspace WireGuard program: started once, adopted ever after, ended only by a clean-up.

It must outlive the agent: sessions live in it, and a peer notices a lost session only after 15 seconds.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warren_agent.errors import SetupError, StateError
from warren_agent.keystore import write_private

logger = logging.getLogger(__name__)

TUN: Final = Path("/dev/net/tun")
START_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02
_LOG_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process that cannot be mistaken for a later one with the same id."""

    pid: int
    started: int


def started_ticks(pid: int) -> int | None:
    """When a process started, in ticks since boot; None if it is gone or only waits to be reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may hold anything, so count from its end.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


class WireGuardProcess:
    """The program behind one interface. Methods block."""

    def __init__(self, *, interface: str, program: str, uapi_dir: Path, state_dir: Path) -> None:
        self.socket_path = uapi_dir / f"{interface}.sock"
        self._interface = interface
        self._program = program
        self._state_file = state_dir / "wireguard.json"
        self._log = state_dir / "wireguard.log"
        self._child: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        """Whether a program listens at the socket, whoever started it."""
        if self._child is not None:
            self._child.poll()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket_path))
            except OSError:
                return False
        return True

    def start(self) -> None:
        """Start the program in a session of its own and wait until it answers; raises `SetupError`."""
        path = shutil.which(self._program)
        if path is None:
            raise SetupError(
                f"the userspace WireGuard program {self._program!r} is not installed; build it with"
                " 'go install golang.zx2c4.com/wireguard@latest' or set userspace.program to its path"
            )
        self._require_tun()
        self.stop()
        child = self._spawn(path)
        self._child = child
        started = started_ticks(child.pid)
        if started is not None:
            mark = {"pid": child.pid, "started": started}
            write_private(self._state_file, json.dumps(mark).encode())
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if child.poll() is not None:
                raise SetupError(f"{self._program} ended at once: {self._last_log_line()}")
            if time.monotonic() > deadline:
                self.stop()
                raise SetupError(f"{self._program} does not answer at {self.socket_path}")
            time.sleep(_POLL_SECONDS)
        logger.info("WireGuard program started", extra={"pid": child.pid, "interface": self._interface})

    def _spawn(self, path: str) -> subprocess.Popen[bytes]:
        try:
            if self._log.exists() and self._log.stat().st_size > _LOG_BYTES:
                self._log.unlink()
            with self._log.open("ab") as log:
                return subprocess.Popen(
                    [path, "-f", self._interface],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    start_new_session=True,
                    env={
                        "PATH": os.environ.get("PATH", ""),
                        "LOG_LEVEL": "error",
                        "WG_PROCESS_FOREGROUND": "1",
                    },
                )
        except OSError as error:
            raise SetupError(f"cannot start {path}: {error.strerror}") from error

    @staticmethod
    def _require_tun() -> None:
        try:
            os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise SetupError(
                f"cannot open {TUN}: {error.strerror}; load the module with 'modprobe tun',"
                " and pass the device into a container"
            ) from error

    def _last_log_line(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return "it left no log"
        return lines[-1] if lines else "it left no log"

    def stop(self) -> None:
        """End the program we started, if it still runs; one that others started stays."""
        mark = self._marked()
        if mark is not None and started_ticks(mark.pid) == mark.started:
            self._end(mark)
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._state_file.unlink(missing_ok=True)

    def _end(self, mark: ProcessMark) -> None:
        for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            try:
                os.kill(mark.pid, number)
            except ProcessLookupError:
                return
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                if self._child is not None:
                    self._child.poll()
                if started_ticks(mark.pid) != mark.started:
                    return
                time.sleep(_POLL_SECONDS)
        raise StateError(f"process {mark.pid} ({self._program}) does not end")

    def _marked(self) -> ProcessMark | None:
        try:
            fields = json.loads(self._state_file.read_bytes())
            return ProcessMark(int(fields["pid"]), int(fields["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
