"""Settings of the relay: a YAML file, over it `WARREN_RELAY_*` variables, over them flags."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from warren_runtime.acme import settings as acme
from warren_runtime.acme.settings import AcmeSettings, read_acme
from warren_runtime.derp_connection import RateLimit
from warren_runtime.proxies import Proxies, read_proxies
from warren_runtime.relay_settings import read_limit
from warren_runtime.settings import Listen, Problems, Section, from_environment, load_yaml, overlay

ENVIRONMENT_PREFIX: Final = "WARREN_RELAY"
FIELDS: Final = (
    "listen",
    "tls.certificate",
    "tls.key",
    "tls.self_signed",
    *(f"tls.acme.{name}" for name in acme.FIELDS),
    "workers",
    "derp_key_file",
    "stun_listen",
    "health_listen",
    "admission.mode",
    "admission.verify_url",
    "admission.ca_file",
    "admission.keys_file",
    "admission.when_unreachable",
    "mesh.key_file",
    "mesh.peers",
    "mesh.discover",
    "mesh.certificate_name",
    "mesh.ca_file",
    "limit.bytes_per_second",
    "limit.burst_bytes",
    "trusted_proxies",
    "forwarded_header",
    "proxy_protocol",
    "drain_seconds",
    "log.level",
    "log.json",
)
"""Every setting by dotted path: `tls.key` is the flag `--tls-key` and the variable `WARREN_RELAY_TLS_KEY`."""


class AdmissionMode(enum.Enum):
    """Who may use the relay."""

    MEMBERS = "members"
    LIST = "list"
    OPEN = "open"


class WhenUnreachable(enum.Enum):
    """Who gets in while the control server cannot be asked: members of the last day, nobody, everyone."""

    REMEMBERED = "remembered"
    REFUSE = "refuse"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Tls:
    """Chain and key in PEM, reloaded when they change; or names for a self-signed pair; or ACME."""

    certificate: Path | None
    key: Path | None
    self_signed: tuple[str, ...] = ()
    acme: AcmeSettings | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """With `members`, the control server is asked at `verify_url`; `ca_file` holds its private CA, if any.

    With `list`, `keys_file` has one node key per line; it is read again when it changes.
    """

    mode: AdmissionMode
    verify_url: str
    ca_file: Path | None
    keys_file: Path | None = None
    when_unreachable: WhenUnreachable = WhenUnreachable.REMEMBERED


@dataclass(frozen=True, slots=True)
class Mesh:
    """The other relays of the region, `HOST[:PORT]` each, and the file with the key that all of them share.

    `discover` is a name whose addresses are relays of the region too, followed as they change. All are called
    over TLS if this relay has it; `ca_file` holds their private CA, if any, and `certificate_name` is what
    the certificates of discovered relays are good for.
    """

    key_file: Path
    peers: tuple[tuple[str, int], ...]
    ca_file: Path | None = None
    discover: tuple[str, int] | None = None
    certificate_name: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """`tls` None means plain HTTP, behind something that ends TLS. `stun_listen` None means no STUN."""

    listen: Listen
    tls: Tls | None
    derp_key_file: Path
    stun_listen: Listen | None
    health_listen: Listen | None
    admission: Admission
    log_level: str
    log_json: bool | None
    mesh: Mesh | None = None
    limit: RateLimit | None = None
    workers: int = 1
    drain_seconds: float = 2.0
    proxies: Proxies = field(default_factory=Proxies)


def load(file: Path | None, flags: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> Config:
    """Everything together; SettingsError names every problem."""
    data = load_yaml(file) if file is not None else {}
    data = overlay(data, from_environment(ENVIRONMENT_PREFIX, FIELDS, environ))
    return parse(overlay(data, flags))


def parse(data: Mapping[str, Any]) -> Config:
    """The settings in a mapping."""
    problems = Problems()
    root = Section(data, "", problems)
    log = root.section("log")
    config = Config(
        listen=root.listen("listen", "0.0.0.0:443") or Listen("", 443),
        tls=_tls(root),
        derp_key_file=root.path("derp_key_file", "/var/lib/warren-relay/derp.key") or Path(),
        stun_listen=_optional_listen(root, "stun_listen", "0.0.0.0:3478"),
        health_listen=_optional_listen(root, "health_listen", "0.0.0.0:9090"),
        admission=_admission(root.section("admission")),
        mesh=_mesh(root),
        limit=read_limit(root),
        workers=_workers(root),
        drain_seconds=float(root.integer("drain_seconds", 2, low=0, high=300)),
        proxies=read_proxies(root),
        log_level=log.choice("level", ("debug", "info", "warning", "error"), "info"),
        log_json=log.boolean("json", False) if log.has("json") else None,
    )
    log.finish()
    root.finish()
    problems.raise_if_any()
    return config


def _tls(root: Section) -> Tls | None:
    if not root.has("tls"):
        root.raw("tls")
        return None
    section = root.section("tls")
    names = section.list_of_texts("self_signed")
    ordered = read_acme(section.section("acme")) if section.has("acme") else None
    section.raw("acme")
    needs_files = not names and ordered is None
    certificate = section.path("certificate", required=needs_files)
    key = section.path("key", required=needs_files)
    if names and (certificate or key):
        section.problem("self_signed", "excludes certificate and key")
    if ordered and (certificate or key or names):
        section.problem("acme", "excludes certificate, key and self_signed")
    section.finish()
    is_whole = (certificate and key) or names or ordered
    return Tls(certificate, key, names, ordered) if is_whole else None


def _mesh(root: Section) -> Mesh | None:
    if not root.has("mesh"):
        root.raw("mesh")
        return None
    section = root.section("mesh")
    key_file = section.path("key_file", required=True)
    ca_file = section.path("ca_file")
    peers = [_host_port(section, "peers", text) for text in section.list_of_texts("peers")]
    name = section.text("discover", "")
    discover = _host_port(section, "discover", name) if name else None
    certificate_name = section.text("certificate_name", "")
    if discover and root.has("tls") and not certificate_name:
        section.problem("certificate_name", "is required with discover and TLS: a name in their certificates")
    section.finish()
    return Mesh(key_file, tuple(peers), ca_file, discover, certificate_name) if key_file else None


def _host_port(section: Section, name: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, "443"
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        section.problem(name, f"must be HOST or HOST:PORT, got {text!r}")
        return (host, 443)
    return (host, int(port))


def _workers(root: Section) -> int:
    # `auto`: one for each core that this process may use.
    if root.raw("workers") == "auto":
        return len(os.sched_getaffinity(0))
    return root.integer("workers", 1, low=1, high=64)


def _admission(section: Section) -> Admission:
    mode = AdmissionMode(section.choice("mode", [mode.value for mode in AdmissionMode], "members"))
    url = section.text("verify_url", "")
    if mode is AdmissionMode.MEMBERS:
        parts = urlsplit(url)
        if not url:
            section.problem(
                "verify_url", "is required with mode members: the control server's URL with /verify"
            )
        elif parts.scheme not in ("http", "https") or not parts.hostname:
            section.problem("verify_url", "must be an http or https URL")
    ca_file = section.path("ca_file")
    keys_file = section.path("keys_file", required=mode is AdmissionMode.LIST)
    outcomes = [each.value for each in WhenUnreachable]
    unreachable = WhenUnreachable(section.choice("when_unreachable", outcomes, "remembered"))
    section.finish()
    return Admission(mode, url, ca_file, keys_file, unreachable)


def _optional_listen(root: Section, name: str, default: str) -> Listen | None:
    # YAML reads a bare `off` as false.
    if root.raw(name) in (False, "off"):
        return None
    return root.listen(name, default)
