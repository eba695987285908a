"""Everything that helps to understand an agent in trouble, as one document. Holds addresses and public keys,
never a secret. What cannot be read says why in its place.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

from warren_agent.config import Config
from warren_agent.data_plane import wireguard_process
from warren_agent.errors import AgentError
from warren_agent.host import Host
from warren_agent.kernel.network import HostNetwork, sysctl_flag
from warren_agent.kernel.wireguard_netlink import kernel_has_wireguard
from warren_agent.local_client import ask
from warren_agent.requirements import host_warnings, missing_capabilities
from warren_wire import __version__

SWITCHES: Final = (
    "ipv4/ip_forward",
    "ipv4/conf/all/rp_filter",
    "ipv4/conf/all/src_valid_mark",
    "ipv6/conf/all/forwarding",
    "ipv6/conf/all/disable_ipv6",
)
COMMANDS: Final = (
    ("ip", "-details", "link"),
    ("ip", "address"),
    ("ip", "rule"),
    ("ip", "-6", "rule"),
    ("ip", "route", "show", "table", "all"),
    ("ip", "-6", "route", "show", "table", "all"),
    ("nft", "list", "ruleset"),
)
_COMMAND_SECONDS: Final = 10.0
_MAX_OUTPUT: Final = 200_000


def bug_report(config: Config) -> Mapping[str, Any]:
    """Blocks for some seconds."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "system": {
            "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
            "kernel_wireguard": kernel_has_wireguard(),
            "wireguard_program_answers": wireguard_process(config).answers(),
            "missing_capabilities": missing_capabilities(Path("/proc/self/status").read_text()),
            "switches": {name: sysctl_flag(name) for name in SWITCHES},
            "warnings": host_warnings(config),
        },
        "settings": {name: _plain(value) for name, value in dataclasses.asdict(config).items()},
        "status": _asked(config.socket, "GET", "status"),
        "netcheck": _asked(config.socket, "POST", "netcheck", {}),
        "ours": _ours(config),
        "host": {" ".join(command): _output(command) for command in COMMANDS},
    }


def _asked(socket: Path, method: str, question: str, body: Mapping[str, Any] | None = None) -> object:
    try:
        return ask(socket, method, question, body)
    except AgentError as error:
        return {"error": str(error)}


def _ours(config: Config) -> object:
    try:
        return _described(HostNetwork(config).observe())
    except AgentError as error:
        return {"error": str(error)}


def _described(host: Host) -> Mapping[str, Any]:
    return {
        "link_up": host.link_up,
        "mtu": host.mtu,
        "addresses": sorted(map(str, host.addresses)),
        "routes": sorted(map(str, host.routes)),
        "rules": [dataclasses.asdict(rule) for rule in sorted(host.rules)],
        "firewall": None if host.firewall is None else [dict(entry) for entry in host.firewall.objects],
    }


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | str():
            return value
        case Enum():
            return value.value
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case _:
            return str(value)


def _output(command: tuple[str, ...]) -> str:
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_SECONDS,
            check=False,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not read: {error}"
    return (answer.stdout or answer.stderr)[:_MAX_OUTPUT]
