"""The Debian below the product's images in the lab: the packages of ``images/base``, by mmdebstrap.

Knows Debian; not what is built on it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from warren_lab.images import recipes
from warren_lab.images.store import Build, ImageError, Store

SUITE: Final = "bookworm"
PACKAGES: Final = "images/base/packages.txt"
_UNSHIPPED: Final = ("doc", "man", "info", "locale", "i18n")
_OPTIONS: Final = (
    "--quiet",
    "--variant=minbase",
    '--aptopt=Acquire::Languages "none"',
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNSHIPPED),
    # A root that is merged from the start does not pull in Perl for merging it.
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    "--customize-hook=rm -rf $1/var/cache/apt/* $1/var/lib/apt/lists/* $1/var/log/* $1/etc/resolv.conf "
    "$1/etc/hostname $1/var/cache/debconf/*-old $1/var/lib/dpkg/*-old",
)


CONTAINERFILE: Final = "images/base/Containerfile"
_INPUTS: Final = (
    CONTAINERFILE,
    "images/base/install-requirements",
    recipes.requirements(recipes.COMMON),
)


def root_fingerprint(repository: Path) -> str:
    """Changes with the package list and with how the root is made."""
    return recipes.fingerprint([SUITE, *_OPTIONS, (repository / PACKAGES).read_bytes()])


def fingerprint(repository: Path) -> str:
    """Changes with anything below the products' own requirements."""
    files = [(repository / path).read_bytes() for path in _INPUTS]
    return recipes.fingerprint([root_fingerprint(repository), *files])


def build_root(store: Store, repository: Path, tag: str, scratch: Path) -> None:
    """Make the root file system and put it into the store."""
    program = shutil.which("mmdebstrap")
    if program is None:
        raise ImageError("mmdebstrap is missing: apt-get install mmdebstrap")
    wanted = ",".join(recipes.packages((repository / PACKAGES).read_text()))
    archive = scratch / "root.tar"
    done = subprocess.run(
        [program, *_OPTIONS, f"--include={wanted}", SUITE, str(archive)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ImageError(f"mmdebstrap could not make the root of the images: {last}")
    containerfile = 'FROM scratch\nADD root.tar /\nCMD ["python3"]\n'
    store.build(Build(tag=tag, context=scratch, containerfile=containerfile))
