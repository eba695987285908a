"""Private files: for their owner only and never half written. Keys are made once and never replaced."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from warren_wire.errors import DecodeError
from warren_wire.keys import DiscoPrivate, MachinePrivate, NodePrivate

logger = logging.getLogger(__name__)

_Key = TypeVar("_Key", MachinePrivate, NodePrivate, DiscoPrivate)
_MAX_BYTES: Final = 4096


class KeyFileError(Exception):
    """A key file that cannot be read, written or understood; the text says which and never what is in it."""


def load_or_create(path: Path, kind: type[_Key]) -> _Key:
    """The key in a file, or a new one written there if there is no file."""
    try:
        return load(path, kind)
    except FileNotFoundError:
        return create(path, kind)


def load(path: Path, kind: type[_Key]) -> _Key:
    """The key in a file; FileNotFoundError if there is none."""
    try:
        with path.open("r", encoding="ascii") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                logger.warning("key file is readable by everyone on this host", extra={"file": str(path)})
            return kind.parse(file.read(_MAX_BYTES).strip())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyFileError(f"cannot read key file {path}: {error.strerror}") from error
    except (DecodeError, UnicodeDecodeError):
        # Without the cause: its text might show a part of the file.
        raise KeyFileError(f"key file {path} holds no key") from None


def create(path: Path, kind: type[_Key]) -> _Key:
    """A new random key, written whole or not at all; if another process was faster, its key."""
    key = kind.from_seed(os.urandom(32))
    try:
        store(path, key)
    except FileExistsError:
        return load(path, kind)
    return key


def store(path: Path, key: MachinePrivate | NodePrivate | DiscoPrivate) -> None:
    """Put a key where there is none; FileExistsError if there is one, which then stays."""
    try:
        with _beside(path, f"{key.to_text()}\n".encode()) as temporary:
            # A link fails where a file exists; a rename would replace a key that is in use.
            os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        raise KeyFileError(f"cannot write key file {path}: {error.strerror}") from error


def write_private(path: Path, content: bytes) -> None:
    """A file that only its owner reads, in place of what was there; written whole or not at all (OSError)."""
    with _beside(path, content) as temporary:
        temporary.replace(path)


@contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """The content in a file next to `path`, on its disk already, and gone afterwards."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
