"""One short rtnetlink conversation; the library's errors end here."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from warren_agent.errors import KernelError
from warren_agent.kernel.route_library import IPRoute, NetlinkError


@contextmanager
def rtnetlink() -> Iterator[Any]:
    """An open conversation in the network namespace of the calling thread. Blocks; not for the event loop."""
    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        raise KernelError(f"netlink: {os.strerror(error.code)}") from error
    except OSError as error:
        raise KernelError(f"netlink: {error.strerror}") from error


@contextmanager
def unless(*codes: int) -> Iterator[None]:
    """Pass over the errors that mean "it is so already"."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in codes:
            raise


EXISTS = errno.EEXIST
GONE = (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL)
