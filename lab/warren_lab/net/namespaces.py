"""Network namespaces by name: made, entered by a thread, removed.

A thread enters and ends, so the calling thread never leaves its own namespace and nothing forks.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from pyroute2 import netns

from warren_lab.errors import NetworkError

T = TypeVar("T")

RUN_DIR: Final = Path("/run/netns")
CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    """The file that stands for a namespace."""
    return RUN_DIR / name


def names(prefix: str = "") -> list[str]:
    """Namespaces whose name starts with ``prefix``."""
    if not RUN_DIR.exists():
        return []
    return sorted(entry.name for entry in RUN_DIR.iterdir() if entry.name.startswith(prefix))


def create(name: str) -> None:
    """Make an empty namespace."""
    if path(name).exists():
        raise NetworkError(f"the network namespace {name} exists already")

    def make() -> None:
        _checked(_libc.unshare(CLONE_NEWNET), f"make the network namespace {name}")
        netns.attach(name, "thread-self")

    try:
        _in_thread(make)
    except OSError as error:
        if path(name).exists():
            remove(name)
        raise NetworkError(f"cannot make the network namespace {name}: {error.strerror}") from error


def remove(name: str) -> None:
    """Remove a namespace; a missing one is fine. It ends with the last process inside."""
    try:
        netns.remove(name)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise NetworkError(f"cannot remove the network namespace {name}: {error.strerror}") from error


def inside(name: str, action: Callable[[], T]) -> T:
    """Run ``action`` in a thread that is in the namespace; sockets it opens stay there."""

    def enter() -> T:
        descriptor = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.setns(descriptor, CLONE_NEWNET), f"enter the network namespace {name}")
        finally:
            os.close(descriptor)
        return action()

    return _in_thread(enter)


def processes(name: str) -> list[int]:
    """Ids of the processes in a namespace."""
    try:
        wanted = path(name).stat().st_ino
    except FileNotFoundError:
        return []
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns" / "net").stat().st_ino == wanted:
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
    return found


def set_kernel_values(name: str, values: dict[str, str]) -> None:
    """Write network settings of the namespace: ``{"net/ipv4/ip_forward": "1"}``."""

    def write() -> None:
        for key, value in values.items():
            (Path("/proc/sys") / key).write_text(value)

    inside(name, write)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {what}: {os.strerror(number)}")


def _in_thread(action: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def target() -> None:
        try:
            results.append(action())
        except BaseException as error:  # handed to the caller below
            failures.append(error)

    thread = threading.Thread(target=target, name="namespace")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
