"""Which images the lab makes, of what, and the names that follow from their content.

Pure but for reading the files it names in a fingerprint. Runs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warren_lab.images.store import ImageError

REGISTRY: Final = "localhost"
"""Never pulled from: nodes get these images imported."""


@dataclass(frozen=True, slots=True)
class Product:
    """An image of Warren, built from its own Containerfile."""

    name: str
    """``control`` for ``warren-control``."""
    folder: str
    sources: tuple[str, ...]

    @property
    def containerfile(self) -> str:
        return f"{self.folder}/Containerfile"

    @property
    def requirements(self) -> str:
        return requirements(self.name)


@dataclass(frozen=True, slots=True)
class Small:
    """An image of one static program, for the cluster itself or for tests."""

    name: str
    program: str
    containerfile: str


def requirements(name: str) -> str:
    """The lock of one component's dependencies."""
    return f"requirements/{name}.txt"


COMMON: Final = "base"
"""The lock of just what all need; the base image installs it."""

_SHARED: Final = ("wire/warren_wire", "runtime/warren_runtime")

PRODUCTS: Final = {
    product.name: product
    for product in (
        Product("control", "control-server", (*_SHARED, "control-server/warren_control")),
        Product("relay", "relay", (*_SHARED, "relay/warren_relay")),
        Product("agent", "node-agent", (*_SHARED, "node-agent/warren_agent")),
        Product("operator", "operator", (*_SHARED, "operator/warren_operator")),
    )
}

SMALL: Final = {
    small.name: small
    for small in (
        Small(
            "pause",
            "busybox",
            'FROM scratch\nCOPY program /bin/busybox\nENTRYPOINT ["/bin/busybox", "sleep", "2147483647"]\n',
        ),
        Small("coredns", "coredns", 'FROM scratch\nCOPY program /coredns\nENTRYPOINT ["/coredns"]\n'),
        # The agent's Containerfile takes the program from here.
        Small("wireguard", "wireguard", "FROM scratch\nCOPY program /out/wireguard\n"),
        # For tests and the demo: serves /www, has a shell, wget and nc.
        Small(
            "web",
            "busybox",
            "FROM scratch\nCOPY program /bin/busybox\n"
            'RUN ["/bin/busybox", "mkdir", "-p", "/www", "/tmp", "/etc"]\n'
            'RUN ["/bin/busybox", "--install", "/bin"]\n'
            'CMD ["/bin/httpd", "-f", "-p", "80", "-h", "/www"]\n',
        ),
    )
}

SYSTEM: Final = ("pause", "coredns", "web")
"""What every cluster gets before its first pod."""


def tag(name: str, fingerprint: str) -> str:
    """The reference of an image; products carry the project's name."""
    full = name if name in SMALL and name != "wireguard" else f"warren-{name}"
    return f"{REGISTRY}/{full}:{fingerprint}"


def fingerprint(parts: Iterable[str | bytes]) -> str:
    """A short name of everything that goes into an image."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]


def packages(text: str) -> list[str]:
    """The names in a package list with ``#`` comments."""
    return [name for line in text.splitlines() for name in line.partition("#")[0].split()]


def with_stage(containerfile: str, name: str, image: str) -> str:
    """A Containerfile whose stage ``name`` is a finished image instead of the steps that make it."""
    lines = containerfile.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if line.startswith("FROM ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        if lines[start].split()[2:] == ["AS", name]:
            return "".join([*lines[:start], f"FROM {image} AS {name}\n\n", *lines[end:]])
    raise ImageError(f"the Containerfile has no stage {name!r}")


def runtime_fingerprint(product: Product, repository: Path, base: str, more: Sequence[str] = ()) -> str:
    """Of a product's image without its own sources."""
    files = [(repository / path).read_bytes() for path in (product.containerfile, product.requirements)]
    return fingerprint([base, *files, *more])


def source_fingerprint(product: Product, repository: Path, runtime: str) -> str:
    """Of a product's finished image."""
    parts: list[str | bytes] = [runtime]
    for folder in product.sources:
        for path in sorted((repository / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                parts += [path.relative_to(repository).as_posix(), path.read_bytes()]
    return fingerprint(parts)
