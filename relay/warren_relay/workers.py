"""Several processes on one port: started, watched and ended by a parent that serves nothing itself.

The kernel deals connections out to them (SO_REUSEPORT); they find each other's clients over Unix sockets in a
folder that only they can enter. Must not know what they serve.
"""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

logger = logging.getLogger(__name__)

RESTART_SECONDS: Final = 1.0
EXIT_BAD_SETTINGS: Final = 2
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Worker:
    """One of `count` processes. The key lets workers tell each other from anybody else."""

    index: int
    count: int
    folder: Path
    key: str = field(repr=False)

    def socket(self, index: int) -> str:
        return str(self.folder / f"{index}.sock")

    @property
    def others(self) -> list[int]:
        return [index for index in range(self.count) if index != self.index]


def run(count: int, serve: Callable[[Worker], int]) -> int:
    """Run `serve` in `count` processes until SIGTERM; one that dies is started again. Returns an exit code.

    Call it before there are threads or an event loop: it forks.
    """
    with tempfile.TemporaryDirectory(prefix="warren-relay-") as folder:
        key = secrets.token_hex(32)
        workers = [Worker(index, count, Path(folder), key) for index in range(count)]
        return _Parent(serve).run(workers)


class _Parent:
    def __init__(self, serve: Callable[[Worker], int]) -> None:
        self._serve = serve
        self._running: dict[int, Worker] = {}
        self._stopping = False

    def run(self, workers: list[Worker]) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for worker in workers:
            self._start(worker)
        code = 0
        while self._running:
            pid, status = os.wait()
            worker = self._running.pop(pid)
            if self._stopping:
                continue
            ended = os.waitstatus_to_exitcode(status)
            if ended == EXIT_BAD_SETTINGS:
                # It has said why, and another attempt would end the same way.
                code = ended
                self._stop(signal.SIGTERM, None)
                continue
            logger.error("worker ended and is started again", extra={"worker": worker.index, "code": ended})
            time.sleep(RESTART_SECONDS)
            if not self._stopping:
                self._start(worker)
        return code

    def _start(self, worker: Worker) -> None:
        # A worker of before may have left its socket.
        Path(worker.socket(worker.index)).unlink(missing_ok=True)
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._running[pid] = worker
            return
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            _end_with(parent)
            code = self._serve(worker)
        except Exception:
            logger.exception("worker failed", extra={"worker": worker.index})
        finally:
            logging.shutdown()
            os._exit(code)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._stopping = True
        for pid in self._running:
            os.kill(pid, signal.SIGTERM)


def _end_with(parent: int) -> None:
    """Workers must not outlive a parent that was killed: the port would stay taken."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
