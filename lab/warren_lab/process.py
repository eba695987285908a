"""One program of the lab: its own process group, a log file, and an end that is certain.

Knows nothing of networks beyond the name of the namespace a program runs in.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from warren_lab.errors import ProcessError
from warren_lab.patience import patient

GRACE_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.05
_MOUNTS: Final = ("unshare", "--mount", "sh", "-c", 'mount --make-rshared / && exec "$@"', "sh")


def entering(command: Sequence[str], namespace: str | None, *, own_mounts: bool = False) -> list[str]:
    """The command line that runs ``command`` in a network namespace, still as one process.

    Not through ``ip netns exec``: that mounts a fresh /sys over the cgroup tree.
    """
    prefix: list[str] = []
    if namespace is not None:
        prefix += ["nsenter", f"--net=/run/netns/{namespace}", "--"]
    if own_mounts:
        prefix += _MOUNTS
    return [*prefix, *command]


class Process:
    """A running program. ``stop`` ends it and everything it started in its group."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        namespace: str | None = None,
        own_mounts: bool = False,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            try:
                self._popen = subprocess.Popen(
                    entering(command, namespace, own_mounts=own_mounts),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environment or {})},
                    cwd=folder,
                    start_new_session=True,
                )
            except OSError as error:
                raise ProcessError(f"cannot start {name}: {error}") from error

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._popen.poll()

    @property
    def running(self) -> bool:
        return self.exit_code is None

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        try:
            text = self.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_seconds: float = 30.0) -> None:
        """Wait until ``ready`` says so; ends early, with the log, if the program does."""
        limit = patient(timeout_seconds)
        deadline = time.monotonic() + limit
        while not ready():
            if not self.running:
                raise self._failure(f"{self.name} ended with code {self.exit_code} before {what}")
            if time.monotonic() > deadline:
                raise self._failure(f"{self.name}: {what} took longer than {limit:.0f} s")
            time.sleep(POLL_SECONDS)

    def _failure(self, what: str) -> ProcessError:
        return ProcessError(f"{what}; {self.log} ends with:\n{self.tail()}")

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Ask it to end, and make it end after the grace time; harmless when it already has."""
        self._signal(signal.SIGTERM)
        try:
            self._popen.wait(patient(grace_seconds))
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """End the whole group at once."""
        self._signal(signal.SIGKILL)
        self._popen.wait()

    def pause(self) -> None:
        """Stop it without ending it, like a stalled machine."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._popen.pid, number)
        except ProcessLookupError:
            return


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; with the id it names one process for ever."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces, so count from its end.
    state, *rest = text.rsplit(")", 1)[1].split()
    return int(rest[18]) if state not in ("Z", "X") else None
