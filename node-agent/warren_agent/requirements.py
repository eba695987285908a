"""What this host must offer, checked before anything is changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from warren_agent.config import Config
from warren_agent.errors import SetupError
from warren_agent.kernel.network import sysctl_flag

_CAPABILITIES: Final = {12: "NET_ADMIN", 13: "NET_RAW"}
_STATUS: Final = Path("/proc/self/status")


def missing_capabilities(process_status: str) -> list[str]:
    """Which of the two capabilities are missing, from the text of /proc/self/status."""
    for line in process_status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            effective = int(value.strip(), 16)
            return [text for bit, text in _CAPABILITIES.items() if not effective >> bit & 1]
    return list(_CAPABILITIES.values())


def require_capabilities() -> None:
    missing = missing_capabilities(_STATUS.read_text())
    if missing:
        raise SetupError(
            f"{' and '.join(missing)} missing; run with sudo, or give the container both capabilities"
        )


def require_userspace_program(config: Config) -> None:
    """Only where the agent starts the program itself."""
    if not config.userspace_external and shutil.which(config.userspace_program) is None:
        raise SetupError(
            f"the userspace WireGuard program {config.userspace_program!r} is not installed; build it with"
            " 'go install golang.zx2c4.com/wireguard@latest' or set userspace.program to its path"
        )


def host_warnings(config: Config) -> list[str]:
    """What keeps settings from having an effect. The switches are the host's; the agent never turns them."""
    warnings = []
    versions = {network.version for network in config.advertise_routes}
    for version, switch, sysctl in (
        (4, "ipv4/ip_forward", "net.ipv4.ip_forward"),
        (6, "ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"),
    ):
        if version in versions and not sysctl_flag(switch):
            warnings.append(f"{sysctl} is 0, so advertised routes do not work; run: sysctl -w {sysctl}=1")
    return warnings
