"""A TCP connection between two pods that sends a numbered line ten times a second and gets each one back.

It shows interruptions as a person would feel them: retransmissions and their back-off included.
"""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from warren_lab.errors import ProcessError
from warren_lab.scenario.mesh import Member, MeshOfTwo

ECHO_PORT: Final = 7000
SCRIPT: Final = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done | nc {address} {port}"


class Stream:
    """Owns the command that holds the connection; every echoed line is noted with its time of arrival."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._arrived = threading.Condition()
        self._arrivals: list[float] = []
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="stream", daemon=True)
        self._reader.start()

    @classmethod
    def between(cls, mesh: MeshOfTwo, here: Member, there: Member) -> Self:
        """From the client pod of one member to the echo service's pod of the other."""
        script = SCRIPT.format(address=mesh.page_ip(there), port=ECHO_PORT)
        command, environment = here.cluster.kubectl_command("exec", "client", "--", "sh", "-c", script)
        return cls(command, environment)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for _ in self._process.stdout:
            with self._arrived:
                self._arrivals.append(time.monotonic())
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    def wait_for_arrival(self, after: float, timeout_seconds: float) -> float:
        """When the first line later than `after` arrived. Raises `ProcessError` when none comes."""
        deadline = time.monotonic() + timeout_seconds
        with self._arrived:
            while True:
                if self._arrivals and self._arrivals[-1] > after:
                    return next(at for at in self._arrivals if at > after)
                left = deadline - time.monotonic()
                if self._ended:
                    raise ProcessError("the stream between the pods broke")
                if left <= 0:
                    raise ProcessError(f"no line of the stream arrived for {timeout_seconds:.0f} s")
                self._arrived.wait(left)

    def longest_gap(self, since: float, until: float) -> float:
        """The longest silence between two times, in seconds."""
        with self._arrived:
            times = [since, *(at for at in self._arrivals if since < at < until), until]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def wait_for_resumption(self, since: float, least_gap: float, timeout_seconds: float) -> float:
        """When traffic went on after the first silence of at least `least_gap` s that ended after `since`."""
        deadline = time.monotonic() + timeout_seconds
        position = since
        while True:
            arrival = self.wait_for_arrival(position, max(deadline - time.monotonic(), 0.1))
            if arrival - position >= least_gap:
                return arrival
            position = arrival

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()
