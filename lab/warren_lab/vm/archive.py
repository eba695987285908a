"""Files as an initramfs: the kernel's `newc` archive, written without other programs.

Several archives may follow each other in one file; later ones add to earlier ones. Knows no file by name.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO, Final

_MAGIC: Final = b"070701"
_TRAILER: Final = "TRAILER!!!"


class Archive:
    """Each path is written once, with the folders above it; the first content given for a path stays."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._written: set[str] = set()
        self._number = 0
        self._size = 0

    def add_file(self, name: str, source: Path) -> None:
        """A regular file with its mode and time, which compiled Python modules are checked against."""
        status = source.stat()
        mode = stat.S_IFREG | stat.S_IMODE(status.st_mode)
        self._entry(name, mode, source.read_bytes(), int(status.st_mtime))

    def add_bytes(self, name: str, content: bytes, *, mode: int = 0o644) -> None:
        self._entry(name, stat.S_IFREG | mode, content)

    def add_link(self, name: str, target: str) -> None:
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def add_folder(self, name: str) -> None:
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def add_device(self, name: str, major: int, minor: int) -> None:
        self._entry(name, stat.S_IFCHR | 0o600, b"", device=(major, minor))

    def close(self) -> None:
        self._write(_TRAILER, 0, b"", 0, (0, 0))

    def _entry(
        self, name: str, mode: int, content: bytes, modified: int = 0, device: tuple[int, int] = (0, 0)
    ) -> None:
        name = name.strip("/")
        if name in self._written:
            return
        parent = name.rpartition("/")[0]
        if parent and parent not in self._written:
            self.add_folder(parent)
        self._written.add(name)
        self._write(name, mode, content, modified, device)

    def _write(self, name: str, mode: int, content: bytes, modified: int, device: tuple[int, int]) -> None:
        self._number += 1
        path = name.encode() + b"\0"
        fields = (self._number, mode, 0, 0, 1, modified, len(content), 0, 0, *device, len(path), 0)
        self._put(_MAGIC + b"".join(b"%08X" % value for value in fields) + path)
        self._put(content)

    def _put(self, data: bytes) -> None:
        padding = bytes(-(self._size + len(data)) % 4)
        self._stream.write(data + padding)
        self._size += len(data) + len(padding)
