"""Settings of the relay: a YAML file, over it `WARREN_RELAY_*` variables, over them flags."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from warren_runtime.settings import Listen, Problems, Section, from_environment, load_yaml, overlay

ENVIRONMENT_PREFIX: Final = "WARREN_RELAY"
FIELDS: Final = (
    "listen",
    "tls.certificate",
    "tls.key",
    "derp_key_file",
    "stun_listen",
    "health_listen",
    "admission.mode",
    "admission.verify_url",
    "admission.ca_file",
    "log.level",
    "log.json",
)
"""Every setting by dotted path: `tls.key` is the flag `--tls-key` and the variable `WARREN_RELAY_TLS_KEY`."""


class AdmissionMode(enum.Enum):
    """Who may use the relay."""

    MEMBERS = "members"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate chain and key in PEM, reloaded when they change."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Admission:
    """With `members`, the control server is asked at `verify_url`; `ca_file` holds its private CA, if any."""

    mode: AdmissionMode
    verify_url: str
    ca_file: Path | None


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
    certificate = section.path("certificate", required=True)
    key = section.path("key", required=True)
    section.finish()
    return Tls(certificate, key) if certificate and key else None


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
    section.finish()
    return Admission(mode, url, ca_file)


def _optional_listen(root: Section, name: str, default: str) -> Listen | None:
    # YAML reads a bare `off` as false.
    if root.raw(name) in (False, "off"):
        return None
    return root.listen(name, default)
