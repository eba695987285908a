"""The SSH policy as clients read it in a map response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import field


class SSHPrincipal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Whom a rule is for; here always one address of a source node."""

    node_ip: str = field(default="", name="nodeIP")


class SSHAction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What happens to a connection that matches."""

    message: str = ""
    reject: bool = False
    accept: bool = False
    session_duration: int = 0
    """Nanoseconds; 0 is unlimited."""
    allow_agent_forwarding: bool = False
    hold_and_delegate: str = ""
    """Where the destination asks what to do; it fills in the words that start with `$`."""
    allow_local_port_forwarding: bool = False
    allow_remote_port_forwarding: bool = False


class SSHRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    principals: tuple[SSHPrincipal, ...]
    ssh_users: Mapping[str, str]
    """Login asked for to local user; `=` is the same name, the empty string refuses."""
    action: SSHAction
    accept_env: tuple[str, ...] | None = None


ACCEPT: Final = SSHAction(
    accept=True,
    allow_agent_forwarding=True,
    allow_local_port_forwarding=True,
    allow_remote_port_forwarding=True,
)
CHECK_PATH: Final = "/machine/ssh/action/$SRC_NODE_ID/to/$DST_NODE_ID?local_user=$LOCAL_USER"


def hold(server_url: str) -> SSHAction:
    """The answer of a `check` rule: ask the control server."""
    return SSHAction(hold_and_delegate=server_url.rstrip("/") + CHECK_PATH)


def allows(ssh_users: Mapping[str, str], login: str) -> bool:
    """Whether a client that has this map lets somebody in under a login name."""
    if not login:
        return False
    if ssh_users.get(login):
        return True
    return login != "root" and bool(ssh_users.get("*"))
