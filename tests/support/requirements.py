"""What a test needs of the machine. One that cannot have it says what is missing; in CI that is a failure."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from warren_lab.tools.cache import cache_root


def require_root_netns() -> None:
    """Root, and a kernel that makes network namespaces."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if shutil.which("ip") is None:
        pytest.skip("needs the program 'ip'")
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("needs the right to make network namespaces")


def require_program(name: str) -> str:
    """The path of a program: on PATH, or among the programs that the lab has built."""
    found = shutil.which(name) or _built(name)
    if found is None:
        pytest.skip(f"needs the program {name!r}")
    return found


def _built(name: str) -> str | None:
    found = sorted(
        path for path in cache_root().glob(f"**/{name}") if os.access(path, os.X_OK) and path.is_file()
    )
    return str(found[-1]) if found else None


def require_tun() -> None:
    if not Path("/dev/net/tun").exists():
        pytest.skip("needs /dev/net/tun")


def require_nftables() -> None:
    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError:
        pytest.skip("needs libnftables.so.1")
