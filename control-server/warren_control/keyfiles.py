"""Keys of the server on disk.

The Noise key is for ever: connected clients remember it and never fetch it again for a poll, so a server that
comes back with another one has lost every client. It is made on the very first start and at no other time.
"""

from __future__ import annotations

import os
from pathlib import Path

from warren_control.errors import ConfigError
from warren_wire.errors import DecodeError
from warren_wire.keys import MachinePrivate, NodePrivate

_KEY_MODE = 0o600


def noise_key(file: Path, *, first_start: bool) -> MachinePrivate:
    """The stored key; made only when there is no database yet either."""
    if file.exists():
        return MachinePrivate.parse(_checked(file))
    if not first_start:
        raise ConfigError(
            f"noise_key_file: {file} is missing although the database exists. Every client that ever joined"
            " knows the old key and would be locked out by a new one: restore the file from a backup"
            " (or remove the database as well to start a new mesh)"
        )
    key = MachinePrivate.from_seed(os.urandom(32))
    _write(file, key.to_text())
    return key


def relay_key(file: Path) -> NodePrivate:
    """The embedded relay's key, made where there is none: clients learn it anew with each connection."""
    if file.exists():
        return NodePrivate.parse(_checked(file))
    key = NodePrivate.from_seed(os.urandom(32))
    _write(file, key.to_text())
    return key


def restore_key(file: Path, text: bytes, what: str) -> None:
    """Puts a key of a backup in its place; another key that is there already stays (`ConfigError`)."""
    try:
        key = MachinePrivate.parse(text.decode("ascii").strip())
    except (DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what}: the backup does not hold a private key") from error
    if file.exists():
        if MachinePrivate.parse(_checked(file)).raw != key.raw:
            raise ConfigError(f"{what}: {file} holds another key; move it away before you restore")
        return
    _write(file, key.to_text())


def read_secret(file: Path, what: str, *, least: int) -> str:
    """A secret text from a file."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"{what}: cannot read {file}: {reason}") from error
    if len(text) < least:
        raise ConfigError(f"{what}: the secret in {file} has fewer than {least} characters")
    return text


def _checked(file: Path) -> str:
    try:
        text = file.read_text(encoding="ascii").strip()
        MachinePrivate.parse(text)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} does not hold a private key") from error
    return text


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Complete or absent: a start that was cut short must not leave half a key.
        unfinished = file.with_name(file.name + ".new")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _KEY_MODE)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.rename(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
