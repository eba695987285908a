"""Makes the lab's images, each once for its content, and hands out archives that nodes import.

Decides what is built in which order; the commands are :mod:`warren_lab.images.store`'s.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from warren_lab import caches
from warren_lab.images import archive, base, recipes, wheels
from warren_lab.images.recipes import PRODUCTS, SMALL, Product, Small
from warren_lab.images.retention import Retention
from warren_lab.images.store import Build, ImageError, Store

Say = Callable[[str], None]
KEPT: Final = 3
"""Of one image or bundle, so many versions stay in the cache: two checkouts and a try."""


class Programs(Protocol):
    """Where the built programs are."""

    def path(self, program: str, /) -> Path: ...


@dataclass(frozen=True, slots=True)
class Images:
    """Finished images."""

    archive: Path
    """All of them, each layer once."""
    references: Mapping[str, str]
    archives: Mapping[str, Path]

    def single(self, name: str) -> Path:
        """The archive of one image alone."""
        self.reference(name)
        return self.archives[name]

    def reference(self, name: str) -> str:
        """How a pod names an image."""
        if name not in self.references:
            raise ImageError(f"image {name!r} is not among {', '.join(sorted(self.references))}")
        return self.references[name]


def cache_root() -> Path:
    """Where images, their layers and their wheels lie."""
    return caches.root() / "images"


def checkout() -> Path:
    """The repository this package lies in."""
    folder = Path(__file__).resolve().parents[3]
    if not (folder / "images" / "base" / "packages.txt").is_file():
        raise ImageError(f"{folder} is no checkout of the repository: the lab builds images from one")
    return folder


def ensure(
    names: Sequence[str],
    *,
    toolbox: Programs,
    say: Say = lambda _line: None,
    repository: Path | None = None,
    cache: Path | None = None,
) -> Images:
    """Build what is missing and return all ``names`` in one archive."""
    unknown = [name for name in names if name not in PRODUCTS and name not in SMALL]
    if unknown:
        raise ImageError(f"no image is called {', '.join(unknown)}")
    work = _Work(repository or checkout(), cache or cache_root(), toolbox, say)
    work.cache.mkdir(parents=True, exist_ok=True)
    with _locked(work.cache / "lock", lambda: say("images: waiting for another build")):
        return work.images(names)


@dataclass(frozen=True, slots=True)
class _Work:
    repository: Path
    cache: Path
    toolbox: Programs
    say: Say

    @property
    def store(self) -> Store:
        return Store(self.cache / "store", self.cache / "build.log")

    def images(self, names: Sequence[str]) -> Images:
        references = {}
        archives = {}
        for name in names:
            references[name], archives[name] = (
                self.product(PRODUCTS[name]) if name in PRODUCTS else self.small(name)
            )
        if len(archives) == 1:
            return Images(archives[names[0]], references, archives)
        bundle = self.archive_path("bundle", recipes.fingerprint(references.values()))
        if not bundle.exists():
            archive.merge(list(archives.values()), bundle)
        for old in Retention(self.cache / "used", KEPT).use("bundle", bundle.stem):
            self.archive_path("bundle", old).unlink(missing_ok=True)
        return Images(bundle, references, archives)

    def product(self, product: Product) -> tuple[str, Path]:
        """One of Warren's own images."""
        more = [self.wireguard()] if product.name == "agent" else []
        base_print = base.fingerprint(self.repository)
        runtime_print = recipes.runtime_fingerprint(product, self.repository, base_print, more)
        reference = recipes.tag(
            product.name, recipes.source_fingerprint(product, self.repository, runtime_print)
        )
        return reference, self.exported(
            product.name, reference, lambda: self.build_product(product, runtime_print, reference)
        )

    def build_product(self, product: Product, runtime_print: str, reference: str) -> None:
        runtime = recipes.tag(f"{product.name}-runtime", runtime_print)
        if not self.present(runtime):
            self.build_runtime(product, runtime)
        text = (self.repository / product.containerfile).read_text()
        with self.step(f"{product.name}: copying its sources"):
            self.store.build(
                Build(
                    tag=reference,
                    context=self.repository,
                    containerfile=recipes.with_stage(text, "runtime", runtime),
                )
            )

    def build_runtime(self, product: Product, tag: str) -> None:
        """Everything below the sources: it changes only with the requirements and the Containerfile."""
        text = (self.repository / product.containerfile).read_text()
        if product.name == "agent":
            text = recipes.with_stage(text, "wireguard", self.wireguard())
        self.build_with_wheels(tag, product.name, text, "runtime", {"BASE": self.base()})

    def base(self) -> str:
        """What all products stand on."""
        tag = recipes.tag("base", base.fingerprint(self.repository))
        if not self.present(tag):
            text = (self.repository / base.CONTAINERFILE).read_text()
            self.build_with_wheels(tag, recipes.COMMON, text, None, {"DEBIAN": self.root()})
        return tag

    def root(self) -> str:
        """A Debian that has the base's packages."""
        tag = recipes.tag("root", base.root_fingerprint(self.repository))
        if not self.present(tag):
            with (
                self.step("root: Debian with Python, about 30 s"),
                tempfile.TemporaryDirectory(dir=self.cache) as scratch,
            ):
                base.build_root(self.store, self.repository, tag, Path(scratch))
        return tag

    def build_with_wheels(
        self, tag: str, lock: str, containerfile: str, target: str | None, arguments: Mapping[str, str]
    ) -> None:
        """Build what installs the requirements of one lock, without a network."""
        requirements = self.repository / recipes.requirements(lock)
        name = tag.rpartition("/")[2].partition(":")[0]
        folder = self.cache / "wheels" / f"{lock}-{recipes.fingerprint([requirements.read_bytes()])}"
        if not folder.exists():
            with self.step(f"{name}: fetching its wheels"):
                wheels.download(requirements, folder)
            for old in folder.parent.glob(f"{lock}-*"):
                if old != folder:
                    shutil.rmtree(old)
        pip = {"PIP_ARGS": "--quiet --no-index --find-links=/lent/wheels", "PIP_PATH": "/lent/pip"}
        with self.step(f"{name}: installing its requirements"):
            self.store.build(
                Build(
                    tag=tag,
                    context=self.repository,
                    containerfile=containerfile,
                    target=target,
                    arguments={**arguments, **pip},
                    mounts={folder: "/lent/wheels", wheels.pip_package(): "/lent/pip/pip"},
                )
            )

    def wireguard(self) -> str:
        """An image that holds the userspace WireGuard where the agent's Containerfile looks for it."""
        recipe = SMALL["wireguard"]
        program = self.static(recipe.program)
        tag = self.small_tag(recipe, program)
        if not self.present(tag):
            self.build_single(tag, program, recipe.containerfile)
        return tag

    def small(self, name: str) -> tuple[str, Path]:
        """An image of one static program."""
        recipe = SMALL[name]
        program = self.static(recipe.program)
        reference = self.small_tag(recipe, program)
        return reference, self.exported(
            name, reference, lambda: self.build_single(reference, program, recipe.containerfile)
        )

    def small_tag(self, recipe: Small, program: Path) -> str:
        return recipes.tag(recipe.name, recipes.fingerprint([program.read_bytes(), recipe.containerfile]))

    def static(self, name: str) -> Path:
        if name != "busybox":
            return self.toolbox.path(name)
        found = shutil.which("busybox", path="/bin:/usr/bin")
        if found is None:
            raise ImageError("busybox is missing: apt-get install busybox-static")
        return Path(found)

    def build_single(self, tag: str, program: Path, containerfile: str) -> None:
        with (
            self.step(f"{tag.rpartition('/')[2].partition(':')[0]}: packing the program"),
            tempfile.TemporaryDirectory(dir=self.cache) as scratch,
        ):
            shutil.copy2(program, Path(scratch, "program"))
            self.store.build(Build(tag, Path(scratch), containerfile))

    def exported(self, name: str, reference: str, build: Callable[[], None]) -> Path:
        path = self.archive_path(name, reference.rpartition(":")[2])
        if not path.exists():
            if not self.present(reference):
                build()
            with self.step(f"{name}: writing its archive"):
                self.store.export(reference, path)
            # The store still has the older ones; their archives would only fill the disk.
            for old in path.parent.glob("*.tar"):
                if old != path:
                    old.unlink()
        self.used(reference)
        return path

    def archive_path(self, name: str, fingerprint: str) -> Path:
        folder = self.cache / "archives" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{fingerprint}.tar"

    def present(self, tag: str) -> bool:
        """Whether the store has an image; notes its use."""
        return self.used(tag) if self.store.exists(tag) else False

    def used(self, tag: str) -> bool:
        name, _, version = tag.partition("/")[2].partition(":")
        stale = Retention(self.cache / "used", KEPT).use(name, version)
        self.store.remove(*(f"{recipes.REGISTRY}/{name}:{old}" for old in stale))
        return True

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        began = time.monotonic()
        self.say(f"image {text}")
        yield
        if (seconds := time.monotonic() - began) >= 1:
            self.say(f"image {text}: done after {seconds:.0f} s")


@contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """One build at a time: the store is shared by all checkouts of a user."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
