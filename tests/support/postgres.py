"""A PostgreSQL server of the test run: a folder of its own, a free port, an empty database for each test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USER = "warren"
Command = list[str | Path]


@dataclass
class Postgres:
    """A running server."""

    programs: Path
    port: int
    made: int = 0

    def new_database(self) -> str:
        """The URL of an empty database."""
        self.made += 1
        name = f"mesh{self.made}"
        self._run("createdb", name)
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def drop(self, url: str) -> None:
        self._run("dropdb", "--force", "--if-exists", url.rpartition("/")[2])

    def _run(self, program: str, *arguments: str) -> None:
        command = [
            str(self.programs / program),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            USER,
            *arguments,
        ]
        subprocess.run(command, check=True, capture_output=True)


def programs() -> Path:
    """The folder with `initdb` and `postgres`, which Debian keeps outside PATH; skips where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: path.parts[-3])
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        pytest.skip("needs PostgreSQL (Debian: apt-get install postgresql)")
    return Path(on_path).resolve().parent


@contextmanager
def running() -> Iterator[Postgres]:
    """A server for as long as the context lasts; it refuses to run as root, so root gives its rights away."""
    folder = programs()
    user = "nobody" if os.geteuid() == 0 else None
    place = Path(tempfile.mkdtemp(prefix="warren-postgres-"))
    data = place / "data"
    if user is not None:
        shutil.chown(place, user)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    initialise: Command = [
        folder / "initdb",
        "-D",
        data,
        "-U",
        USER,
        "--auth=trust",
        "-E",
        "UTF8",
        "--no-sync",
    ]
    options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
    control: Command = [folder / "pg_ctl", "-D", data, "-w", "-l", place / "log"]
    try:
        subprocess.run(initialise, user=user, check=True, capture_output=True, cwd=place)
        # Its output must go elsewhere: the server inherits it and a pipe would never end.
        quiet = subprocess.DEVNULL
        subprocess.run(
            [*control, "-o", options, "start"], user=user, check=True, stdout=quiet, stderr=quiet, cwd=place
        )
        try:
            yield Postgres(folder, port)
        finally:
            stop: Command = [*control, "-m", "immediate", "stop"]
            subprocess.run(stop, user=user, check=True, stdout=quiet, stderr=quiet, cwd=place)
    finally:
        shutil.rmtree(place)
