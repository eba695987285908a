"""The operator's own settings, from the environment that the chart writes. Nothing is read at import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from warren_operator.errors import ConfigError
from warren_operator.kinds import Manifest
from warren_runtime.settings import Listen

PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
DEFAULT_HEALTH_LISTEN: Final = Listen("0.0.0.0", 9090)  # noqa: S104 - probes and Prometheus come from outside
DEFAULT_RESYNC_SECONDS: Final = 60.0
DEFAULT_CLEANUP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Images:
    control: str
    relay: str
    agent: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is made around the pods of control servers and relays."""

    scrape_annotations: bool = True
    """WARREN_SCRAPE_ANNOTATIONS"""
    network_policies: bool = False
    """WARREN_NETWORK_POLICIES"""
    metrics_from: tuple[Manifest, ...] = ()
    """WARREN_METRICS_FROM, JSON: the NetworkPolicyPeers that reach their metrics. Empty means everyone."""


@dataclass(frozen=True, slots=True)
class OperatorConfig:
    images: Images
    """WARREN_IMAGE_CONTROL, _RELAY, _AGENT: what the pods run unless a Mesh says otherwise."""
    namespaces: tuple[str, ...] = ()
    """WARREN_WATCH_NAMESPACES, comma separated: where to look for resources. Empty means everywhere."""
    health_listen: Listen = DEFAULT_HEALTH_LISTEN
    """WARREN_HEALTH_LISTEN: /health, /ready and /metrics."""
    resync_seconds: float = DEFAULT_RESYNC_SECONDS
    """WARREN_RESYNC_SECONDS: each object is looked at this often even if nothing seems to have happened."""
    cleanup_seconds: float = DEFAULT_CLEANUP_SECONDS
    """WARREN_CLEANUP_SECONDS: how long the deletion of a Mesh waits for clean hosts before it goes on."""
    log_level: str = "INFO"
    """WARREN_LOG_LEVEL"""
    surroundings: Surroundings = Surroundings()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> OperatorConfig:
        problems: list[str] = []
        config = cls(
            images=_images(environ, problems),
            namespaces=_words(environ.get("WARREN_WATCH_NAMESPACES", "")),
            health_listen=_listen(environ, problems),
            resync_seconds=_seconds(environ, "WARREN_RESYNC_SECONDS", DEFAULT_RESYNC_SECONDS, problems),
            cleanup_seconds=_seconds(environ, "WARREN_CLEANUP_SECONDS", DEFAULT_CLEANUP_SECONDS, problems),
            log_level=environ.get("WARREN_LOG_LEVEL", "INFO").upper(),
            surroundings=_surroundings(environ, problems),
        )
        if problems:
            raise ConfigError("\n".join(problems))
        return config


def _images(environ: Mapping[str, str], problems: list[str]) -> Images:
    found = {}
    for part in ("CONTROL", "RELAY", "AGENT"):
        name = f"WARREN_IMAGE_{part}"
        found[part] = environ.get(name, "")
        if not found[part]:
            problems.append(f"{name} is not set: which image runs the {part.lower()} pods?")
    policy = environ.get("WARREN_IMAGE_PULL_POLICY", "IfNotPresent")
    if policy not in PULL_POLICIES:
        problems.append(
            f"WARREN_IMAGE_PULL_POLICY is {policy!r}; it must be one of {', '.join(PULL_POLICIES)}"
        )
    secrets = _words(environ.get("WARREN_IMAGE_PULL_SECRETS", ""))
    return Images(found["CONTROL"], found["RELAY"], found["AGENT"], policy, secrets)


def _surroundings(environ: Mapping[str, str], problems: list[str]) -> Surroundings:
    text = environ.get("WARREN_METRICS_FROM", "[]")
    try:
        peers = json.loads(text)
    except ValueError:
        peers = None
    if not isinstance(peers, list) or not all(isinstance(peer, dict) and peer for peer in peers):
        problems.append(f"WARREN_METRICS_FROM is {text!r}; it must be a JSON list of NetworkPolicyPeers")
        peers = []
    return Surroundings(
        scrape_annotations=_flag(environ, "WARREN_SCRAPE_ANNOTATIONS", True, problems),
        network_policies=_flag(environ, "WARREN_NETWORK_POLICIES", False, problems),
        metrics_from=tuple(peers),
    )


def _flag(environ: Mapping[str, str], name: str, default: bool, problems: list[str]) -> bool:
    text = environ.get(name)
    if text is None:
        return default
    if text not in ("true", "false"):
        problems.append(f"{name} is {text!r}; it must be true or false")
        return default
    return text == "true"


def _listen(environ: Mapping[str, str], problems: list[str]) -> Listen:
    text = environ.get("WARREN_HEALTH_LISTEN")
    try:
        return DEFAULT_HEALTH_LISTEN if text is None else Listen.parse(text)
    except ValueError as error:
        problems.append(f"WARREN_HEALTH_LISTEN is {text!r}; it {error}")
        return DEFAULT_HEALTH_LISTEN


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _seconds(environ: Mapping[str, str], name: str, default: float, problems: list[str]) -> float:
    text = environ.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1.0 <= value <= 86400.0:
        problems.append(f"{name} is {text!r}; it must be a number of seconds from 1 to 86400")
        return default
    return value
