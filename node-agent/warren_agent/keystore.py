"""The three private keys of a node, on disk.

The machine key is the node's identity: losing it means joining as a new node. The disco key is kept as well,
so that peers reach a restarted agent with the key they have. Knows files; must not know the network.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from warren_agent.errors import StateError
from warren_wire.errors import DecodeError
from warren_wire.keys import DiscoPrivate, MachinePrivate, NodePrivate

FILE_NAME = "keys.json"
MAX_FILE_BYTES = 16 * 1024
Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Keys:
    machine: MachinePrivate
    node: NodePrivate
    disco: DiscoPrivate
    previous_node: NodePrivate | None = None
    """The node key before the last rotation, until the control server has accepted the new one."""


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by a file only its owner can read; a crash leaves the old file or the new one."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}; check state_dir and free space") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load(state_dir: Path) -> Keys | None:
    """The stored keys, or None at a first start."""
    path = state_dir / FILE_NAME
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise StateError(f"{path} can be read by others; run: chmod 600 {path}")
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}; check state_dir") from error
    return _parse(path, data)


def _parse(path: Path, data: bytes) -> Keys:
    damaged = f"{path} is damaged; restore it from a backup, or delete it to join as a new node"
    if len(data) > MAX_FILE_BYTES:
        raise StateError(damaged)
    try:
        fields = json.loads(data)
        previous = fields.get("previous_node")
        return Keys(
            machine=MachinePrivate.parse(fields["machine"]),
            node=NodePrivate.parse(fields["node"]),
            disco=DiscoPrivate.parse(fields["disco"]),
            previous_node=None if previous is None else NodePrivate.parse(previous),
        )
    except (ValueError, KeyError, TypeError, AttributeError, DecodeError):
        # Not chained: the text of a parser's error could repeat key material.
        raise StateError(damaged) from None


def save(state_dir: Path, keys: Keys) -> None:
    fields = {
        "machine": keys.machine.to_text(),
        "node": keys.node.to_text(),
        "disco": keys.disco.to_text(),
    }
    if keys.previous_node is not None:
        fields["previous_node"] = keys.previous_node.to_text()
    write_private(state_dir / FILE_NAME, json.dumps(fields, indent=1).encode() + b"\n")


def load_or_create(state_dir: Path, entropy: Entropy = os.urandom) -> Keys:
    """The stored keys; at the very first start new ones, stored before they are used."""
    keys = load(state_dir)
    if keys is not None:
        return keys
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"cannot make {state_dir}: {error.strerror}; set state_dir to a writable folder"
        ) from error
    keys = Keys(
        machine=MachinePrivate.from_seed(entropy(32)),
        node=NodePrivate.from_seed(entropy(32)),
        disco=DiscoPrivate.from_seed(entropy(32)),
    )
    save(state_dir, keys)
    return keys


def with_new_node_key(keys: Keys, entropy: Entropy = os.urandom) -> Keys:
    """Keys for a re-registration; the old node key is remembered so that the server can tie them together."""
    return replace(keys, node=NodePrivate.from_seed(entropy(32)), previous_node=keys.node)


def with_accepted_node_key(keys: Keys) -> Keys:
    return replace(keys, previous_node=None)
