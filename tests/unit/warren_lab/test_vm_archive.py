"""The archive that holds the files of a virtual machine."""

from __future__ import annotations

import io
from pathlib import Path

from warren_lab.vm.archive import Archive


def entries(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content of each entry; the kernel reads the same fields at the same places."""
    found: dict[str, tuple[int, bytes]] = {}
    offset = 0
    while True:
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * n : offset + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[offset + 110 : offset + 110 + name_size - 1].decode()
        offset = (offset + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            assert offset == len(data)
            return found
        found[name] = (mode, data[offset : offset + size])
        offset = (offset + size + 3) & ~3


def test_files_come_with_the_folders_above_them_and_once(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/sh\n")
    program.chmod(0o755)
    stream = io.BytesIO()
    archive = Archive(stream)
    archive.add_file("/opt/bin/program", program)
    archive.add_bytes("opt/bin/program", b"second")
    archive.add_link("opt/tool", "bin/program")
    archive.add_device("dev/console", 5, 1)
    archive.close()
    assert entries(stream.getvalue()) == {
        "opt": (0o040755, b""),
        "opt/bin": (0o040755, b""),
        "opt/bin/program": (0o100755, b"#!/bin/sh\n"),
        "opt/tool": (0o120777, b"bin/program"),
        "dev": (0o040755, b""),
        "dev/console": (0o020600, b""),
    }
