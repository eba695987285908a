"""When the server's keys on disk may be made, and when not.

The Noise key is for ever: connected clients remember it and never fetch it again for a poll, so a server that
comes back with another one has lost every client. It is made on the very first start and at no other time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from warren_control.errors import ConfigError
from warren_runtime import key_files
from warren_runtime.key_files import KeyFileError
from warren_wire.errors import DecodeError
from warren_wire.keys import MachinePrivate, NodePrivate

# Shorter tokens could be guessed.
MIN_TOKEN: Final = 16


def noise_key(file: Path, *, first_start: bool) -> MachinePrivate:
    """The stored key; made only when there is no database yet either."""
    try:
        return key_files.load(file, MachinePrivate)
    except FileNotFoundError:
        if not first_start:
            raise ConfigError(
                f"noise_key_file: {file} is missing although the database exists. Every client that ever"
                " joined knows the old key and would be locked out by a new one: restore the file from a"
                " backup (or remove the database as well to start a new mesh)"
            ) from None
        return _made(file, MachinePrivate)
    except KeyFileError as error:
        raise ConfigError(str(error)) from error


def relay_key(file: Path) -> NodePrivate:
    """The embedded relay's key, made where there is none: clients learn it anew with each connection."""
    try:
        return key_files.load_or_create(file, NodePrivate)
    except KeyFileError as error:
        raise ConfigError(str(error)) from error


def restore_key(file: Path, text: bytes, what: str) -> None:
    """Puts a key of a backup in its place; another key that is there already stays (`ConfigError`)."""
    try:
        key = MachinePrivate.parse(text.decode("ascii").strip())
    except (DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what}: the backup does not hold a private key") from error
    try:
        key_files.store(file, key)
    except FileExistsError:
        if noise_key(file, first_start=False).raw != key.raw:
            raise ConfigError(f"{what}: {file} holds another key; move it away before you restore") from None
    except KeyFileError as error:
        raise ConfigError(str(error)) from error


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


def _made(file: Path, kind: type[MachinePrivate]) -> MachinePrivate:
    try:
        return key_files.create(file, kind)
    except KeyFileError as error:
        raise ConfigError(str(error)) from error
