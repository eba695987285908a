"""What to send in order to join and what an answer means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from http import HTTPStatus
from typing import Final

from warren_agent.config import Config
from warren_agent.errors import ControlError, UnknownNodeError
from warren_agent.keystore import Keys
from warren_agent.paths.values import LocalState
from warren_wire.control.messages import (
    Hostinfo,
    MapRequest,
    Node,
    RegisterAuth,
    RegisterRequest,
    RegisterResponse,
)
from warren_wire.keys import NodePublic

CAPABILITY_VERSION: Final = 130
"""The control protocol's version that this agent keeps to; servers in use refuse less than 113."""
_MAX_ERROR_TEXT: Final = 200
_MAX_LINK: Final = 2000
_NO_LOCK_KEY: Final = f"nlpub:{bytes(32).hex()}"
_UNKNOWN_NODE: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


class Step(Enum):
    """What follows from an answer to a registration."""

    REGISTERED = "registered"
    ROTATE = "rotate"
    """The node key has expired: make a new one and register again."""
    USE_AUTH_KEY = "use-auth-key"
    """The server does not know this node any more: present the join key."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The registration failed; the text is for people."""

    text: str


@dataclass(frozen=True, slots=True)
class LogIn:
    """A person must open this link; the server answers a follow-up once that is done."""

    url: str


def readable(text: str) -> str:
    """A server's words, safe to show on one line."""
    shown = "".join(c if c.isprintable() else " " for c in text[: 4 * _MAX_ERROR_TEXT]).strip()
    return shown[:_MAX_ERROR_TEXT]


def hostinfo(config: Config, version: str, machine: str, local: LocalState | None) -> Hostinfo:
    return Hostinfo(
        hostname=config.hostname,
        os="linux",
        ipn_version=f"warren-{version}",
        go_arch=machine,
        app="warren-agent",
        routable_ips=tuple(str(network) for network in config.advertise_routes),
        request_tags=config.tags or None,
        net_info=None if local is None else local.net_info,
    )


def register_request(keys: Keys, info: Hostinfo, auth_key: str | None, followup: str = "") -> RegisterRequest:
    """`followup` is the link of a login that is waited for."""
    return RegisterRequest(
        version=CAPABILITY_VERSION,
        node_key=keys.node.public,
        old_node_key=NodePublic.zero() if keys.previous_node is None else keys.previous_node.public,
        nl_key=_NO_LOCK_KEY,
        auth=None if auth_key is None else RegisterAuth(auth_key=auth_key),
        followup=followup,
        hostinfo=info,
    )


def leave_request(keys: Keys, now: datetime) -> RegisterRequest:
    """Log out and be forgotten: an expiry that has come logs out, and an ephemeral node is then deleted.

    A server that takes only its own word for what is ephemeral keeps the node as logged out.
    """
    return RegisterRequest(
        version=CAPABILITY_VERSION, node_key=keys.node.public, nl_key=_NO_LOCK_KEY, expiry=now, ephemeral=True
    )


def map_request(keys: Keys, info: Hostinfo, local: LocalState | None, *, stream: bool) -> MapRequest:
    """The poll, or the lite update that tells what changed. The disco key goes into every request: some
    servers take its absence for a zero key.
    """
    return MapRequest(
        version=CAPABILITY_VERSION,
        compress="zstd",
        keep_alive=True,
        node_key=keys.node.public,
        disco_key=keys.disco.public,
        stream=stream,
        omit_peers=not stream,
        hostinfo=info,
        # Unknown endpoints are left out: an empty list would clear what the server has.
        endpoints=None if local is None else tuple(str(endpoint) for endpoint in local.endpoints),
        endpoint_types=None if local is None else local.endpoint_types,
    )


def after_registration(
    response: RegisterResponse, *, sent_auth_key: bool, has_auth_key: bool
) -> Step | LogIn | Refused:
    if response.error:
        # A node that is known registers without its key; a server that forgot it asks for the key that way.
        if has_auth_key and not sent_auth_key:
            return Step.USE_AUTH_KEY
        return Refused(readable(response.error))
    if response.node_key_expired:
        # With a join key the server renews the node in place, and its sessions live on.
        return Step.USE_AUTH_KEY if has_auth_key and not sent_auth_key else Step.ROTATE
    if response.auth_url:
        if has_auth_key and not sent_auth_key:
            return Step.USE_AUTH_KEY
        if not _is_link(response.auth_url):
            return Refused("the control server asks for a login and gives no usable link")
        return LogIn(response.auth_url)
    return Step.REGISTERED


def _is_link(text: str) -> bool:
    """It is shown on terminals and sent back letter by letter."""
    parts = text.partition("://")
    return (
        parts[0] in {"http", "https"}
        and bool(parts[2])
        and len(text) <= _MAX_LINK
        and text.isascii()
        and text.isprintable()
        and " " not in text
    )


def poll_failure(status: int, text: str) -> ControlError:
    shown = readable(text) or "no reason given"
    if status in _UNKNOWN_NODE:
        return UnknownNodeError(f"the control server does not know this node (status {status}: {shown})")
    return ControlError(f"the control server refused the network map (status {status}: {shown})")


def has_expired(node: Node, now: datetime) -> bool:
    """Whether the self node must log in again."""
    return node.expired or (node.key_expiry is not None and node.key_expiry <= now)
