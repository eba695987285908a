"""Can the lab work on this machine? Says what is missing and how to fix it, and fixes what apt can.

Looks only at the machine; knows nothing of what the lab will build on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warren_lab.errors import LabError
from warren_lab.net import namespaces


@dataclass(frozen=True, slots=True)
class Problem:
    """Something missing. ``packages`` are the Debian packages that bring it, if any do."""

    what: str
    fix: str
    packages: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}"


# Program to the Debian package that carries it.
NETWORK_PROGRAMS: Final = {
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "ip": "iproute2",
    "nft": "nftables",
    "conntrack": "conntrack",
}
CLUSTER_PROGRAMS: Final = {"runc": "runc", "busybox": "busybox-static"}
IMAGE_PROGRAMS: Final = {"mmdebstrap": "mmdebstrap", "buildah": "buildah"}
BENCH_PROGRAMS: Final = {"iperf3": "iperf3"}
SSH_PROGRAMS: Final = {"ssh": "openssh-client"}
NAT_PROGRAMS: Final = {"miniupnpd": "miniupnpd-nftables"}
# Its server lies outside PATH; the package brings `pg_config`'s folder and the program that names it.
DATABASE_PROGRAMS: Final = {"pg_lsclusters": "postgresql"}
PROXY_PROGRAMS: Final = {"haproxy": "haproxy"}
VM_PROGRAMS: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "busybox": "busybox-static",
    "wg": "wireguard-tools",
    "sysctl": "procps",
}

NEEDS: Final = {
    "network": NETWORK_PROGRAMS,
    "cluster": CLUSTER_PROGRAMS,
    "images": IMAGE_PROGRAMS,
    "bench": BENCH_PROGRAMS,
    "ssh": SSH_PROGRAMS,
    "nat": NAT_PROGRAMS,
    "database": DATABASE_PROGRAMS,
    "proxy": PROXY_PROGRAMS,
    "vm": VM_PROGRAMS,
}
"""What callers name: ``check({"network", "cluster"})``."""


def check(needs: Iterable[str] = ("network",)) -> list[Problem]:
    """Everything that stands in the way, in the order to fix it."""
    wanted = set(needs)
    if unknown := wanted - NEEDS.keys():
        raise LabError(f"unknown need {', '.join(sorted(unknown))}: choose from {', '.join(NEEDS)}")
    if os.geteuid() != 0:
        return [Problem("the lab makes network namespaces and needs root", "run it with sudo")]
    problems = [
        _program(name, package) for need in NEEDS if need in wanted for name, package in NEEDS[need].items()
    ]
    kernel = [_tun(), _namespaces()]
    # The probe of nftables needs its program.
    if shutil.which("nft") is not None and kernel[1] is None:
        kernel.append(_nftables())
    return [problem for problem in (*kernel, *problems) if problem is not None]


def missing_packages(problems: Iterable[Problem]) -> list[str]:
    """The Debian packages that would fix problems, each once."""
    return sorted({package for problem in problems for package in problem.packages})


def ensure(
    needs: Iterable[str], *, install: bool = True, say: Callable[[str], None] | None = None
) -> list[Problem]:
    """Install with apt-get what it has, and return what is still wrong."""
    speak = say or (lambda text: print(text, file=sys.stderr))
    wanted = tuple(needs)
    problems = check(wanted)
    packages = missing_packages(problems)
    if not packages or not install or shutil.which("apt-get") is None or os.geteuid() != 0:
        return problems
    speak(f"apt-get install {' '.join(packages)}")
    failure = _apt(packages)
    if failure is not None:
        return [Problem(f"apt-get failed ({failure})", f"apt-get install {' '.join(packages)}"), *problems]
    return check(wanted)


def _program(name: str, package: str) -> Problem | None:
    if shutil.which(name) is not None:
        return None
    return Problem(f"the program {name} is missing", f"apt-get install {package}", (package,))


def _tun() -> Problem | None:
    device = Path("/dev/net/tun")
    try:
        os.close(os.open(device, os.O_RDWR))
    except OSError as error:
        return Problem(
            f"{device} cannot be opened ({error.strerror})",
            "modprobe tun, or use a kernel with CONFIG_TUN; in a container pass --device /dev/net/tun",
        )
    return None


def _namespaces() -> Problem | None:
    name = f"wl{os.getpid()}-probe"
    try:
        namespaces.create(name)
    except LabError as error:
        return Problem(str(error), "run as real root, not in a container without CAP_SYS_ADMIN")
    finally:
        if namespaces.path(name).exists():
            namespaces.remove(name)
    return None


def _nftables() -> Problem | None:
    """Load the rules that routers need into a namespace of its own."""
    rules = (
        "table ip probe { chain post { type nat hook postrouting priority 100; masquerade fully-random; }; "
        "chain f { type filter hook forward priority 0; ct status dnat accept; }; }"
    )
    answer = subprocess.run(
        ["unshare", "--net", "nft", "-f", "-"], input=rules, capture_output=True, text=True, check=False
    )
    if answer.returncode == 0:
        return None
    reason = answer.stderr.strip().splitlines()[0] if answer.stderr.strip() else f"exit {answer.returncode}"
    return Problem(
        f"this kernel refuses nftables rules with NAT ({reason})",
        "use a kernel with CONFIG_NF_TABLES, CONFIG_NFT_NAT, CONFIG_NFT_MASQ and CONFIG_NFT_CT",
    )


def _apt(packages: list[str]) -> str | None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    # Without package lists the first try fails; then they are fetched once.
    for command in (install, ["apt-get", "update", "-q"], install):
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if command is install and answer.returncode == 0:
            return None
    reason = [line for line in answer.stderr.splitlines() if line.startswith("E:")]
    return reason[0] if reason else f"exit code {answer.returncode}"
