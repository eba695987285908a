"""Several docker archives as one, each layer once: images of one base then load in a third of the time.

Knows the archive format only.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from warren_lab.images.store import ImageError


def merge(archives: Sequence[Path], target: Path) -> None:
    """Write ``target`` whole or not at all."""
    scratch = target.with_name(target.name + ".part")
    manifests: list[object] = []
    written: set[str] = set()
    with tarfile.open(scratch, "w") as out:
        for archive in archives:
            with tarfile.open(archive) as source:
                for entry in _manifest(source, archive):
                    manifests.append(entry.listing)
                    for name in entry.members:
                        if name not in written:
                            written.add(name)
                            member = source.getmember(name)
                            out.addfile(member, source.extractfile(member))
        listing = json.dumps(manifests).encode()
        head = tarfile.TarInfo("manifest.json")
        head.size = len(listing)
        out.addfile(head, io.BytesIO(listing))
    scratch.rename(target)


@dataclass(frozen=True, slots=True)
class _Entry:
    listing: object
    """The image's lines of ``manifest.json``."""
    members: tuple[str, ...]


def _manifest(source: tarfile.TarFile, archive: Path) -> list[_Entry]:
    opened = source.extractfile("manifest.json")
    if opened is None:
        raise ImageError(f"{archive} is not a docker archive")
    return [_Entry(image, (image["Config"], *image["Layers"])) for image in json.load(opened)]
