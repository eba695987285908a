"""A client of a relay in a process of its own, which can be stopped as a machine stalls.

`python -m warren_bench.receiver PORT CA-FILE` is that process: it prints its key and reads what comes.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from warren_bench.relay_load import connect
from warren_wire.keys import NodePublic


class Receiver:
    """A context manager; `key` names it to senders."""

    def __init__(self, port: int, ca_file: Path) -> None:
        command = [sys.executable, "-m", "warren_bench.receiver", str(port), str(ca_file)]
        folder = Path(__file__).parents[1]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        self.key = NodePublic(bytes.fromhex(self._process.stdout.readline()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """It takes nothing any more, and its connection stays."""
        self._process.send_signal(signal.SIGSTOP)


async def _be(port: int, ca_file: str) -> None:
    (client,) = await connect(port, ssl.create_default_context(cafile=ca_file), 1)
    sys.stdout.write(f"{client.key.raw.hex()}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_be(int(sys.argv[1]), sys.argv[2]))
