"""Where built programs live: one folder a source and version, written whole or not at all.

Knows files and locks only; not how anything is built.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from warren_lab import caches
from warren_lab.errors import ToolError


def cache_root() -> Path:
    """Where the programs lie."""
    return caches.root() / "tools"


def definitions() -> Path:
    """The pinned module families and wheels, beside the package in a checkout."""
    folder = Path(__file__).resolve().parents[2] / "tools"
    if not (folder / "wheels.txt").is_file():
        raise ToolError(f"{folder} is missing: the lab runs from a checkout of the repository")
    return folder


def fingerprint(parts: Iterable[bytes]) -> str:
    """A short name for everything a build depends on."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:12]


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock; ``waiting`` is called once if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def installing(target: Path) -> Iterator[Path]:
    """A scratch folder that becomes ``target`` when the block ends well and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def clear() -> int:
    """Remove everything the lab has cached, images included; returns the bytes freed."""
    root = caches.root()
    if not root.exists():
        return 0
    freed = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    shutil.rmtree(root)
    return freed
