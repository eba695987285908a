"""Python wheels of one image, fetched beforehand so that the build itself needs no network.

Knows pip's command line; not what the wheels are for.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from warren_lab.images.store import ImageError

PYTHON: Final = "3.11"
"""Of the base image, whichever Python runs the lab."""


def platforms(machine: str) -> tuple[str, ...]:
    """Wheel platforms that Debian 12 (glibc 2.36) runs."""
    return tuple(f"{name}_{machine}" for name in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17"))


def download_command(requirements: Path, folder: Path, machine: str) -> list[str]:
    """The ordinary pip with its ordinary settings; every wheel's hash is pinned."""
    abi = "cp" + PYTHON.replace(".", "")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}"]
    command += ["--implementation=cp", f"--abi={abi}", "--abi=abi3", "--abi=none"]
    command += [f"--platform={name}" for name in (*platforms(machine), f"manylinux2014_{machine}")]
    return [*command, f"--dest={folder}", f"--requirement={requirements}"]


def download(requirements: Path, folder: Path) -> None:
    """Fill ``folder``, whole or not at all."""
    scratch = folder.with_name(folder.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    command = download_command(requirements, scratch, platform.machine())
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ImageError(f"pip could not fetch the wheels of {requirements.name}: {last}")
    scratch.rename(folder)


def pip_package() -> Path:
    """The folder of this Python's own pip, lent to the build; the base image has none."""
    found = importlib.util.find_spec("pip")
    if found is None or found.origin is None:
        raise ImageError("this Python has no pip: make the .venv anew with `make venv`")
    return Path(found.origin).parent
