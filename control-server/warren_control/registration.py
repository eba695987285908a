"""What a register request leads to. Pure: request, machine, snapshot and time in, one outcome out.

The order of the questions matters, because stock clients repeat the auth key of their login in every later
register call of the process: in a logout, in a request for an earlier expiry, and in a plain second `up`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from warren_control.model import MEMBERS_USER_ID, AuthKey, Node, Snapshot
from warren_control.tag_requests import TagOwners, unpermitted
from warren_wire.control.messages import RegisterRequest
from warren_wire.keys import MachinePublic

# Tailscale 1.80; below that, responses would need another shape.
MIN_CAPABILITY_VERSION: Final = 113

HOW_TO_GET_A_KEY: Final = (
    "this server admits machines with a pre-auth key only: create one with `warren keys create` "
    "(or `warren-control keys create` on the server) and join with --auth-key"
)


class Refusal(Enum):
    """Why a machine was not admitted; the value is what its user reads."""

    VERSION = "this client is too old: Tailscale 1.80 or newer is needed"
    NODE_KEY = "the node key is missing or zero"
    FOREIGN_NODE_KEY = "the node key belongs to another machine"
    FOREIGN_USER = "this machine is logged in as another user: log out first, then join with the key"
    DISABLED = "this machine is disabled by an administrator"
    NO_KEY = HOW_TO_GET_A_KEY
    UNKNOWN_KEY = "invalid pre-auth key"
    EXPIRED_KEY = "the pre-auth key has expired"
    USED_KEY = "the pre-auth key was already used and is not reusable"
    LATER_EXPIRY = "an expiry can only be brought forward"
    TAGS = "the requested tags are invalid or not permitted by tagOwners of the policy"


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer 200 with the text in `Error`; nothing is stored."""

    refusal: Refusal
    tags: tuple[str, ...] = ()
    """Those that were asked for and may not be had."""

    @property
    def reason(self) -> str:
        """What its user reads."""
        return f"{self.refusal.value}: {', '.join(self.tags)}" if self.tags else self.refusal.value


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """Expire the node now, or delete it for good; `node` is `None` if it is gone already."""

    node: Node | None
    delete: bool
    """The node is ephemeral, or its machine says so now because it will not come back."""


@dataclass(frozen=True, slots=True)
class ExpiryShortened:
    """The node asked to expire earlier."""

    node: Node
    expiry: datetime


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A restart, a second `up`: success, nothing is stored but possibly a wider reusable key."""

    node: Node
    rebind: AuthKey | None = None
    tags: tuple[str, ...] | None = None
    """Other tags that it asked for and may have."""


@dataclass(frozen=True, slots=True)
class NewNodeKeyWanted:
    """The node key has expired; the client makes another one and comes back."""

    node: Node


@dataclass(frozen=True, slots=True)
class ApprovalWanted:
    """It brings no key: a person must let it in."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What whoever lets a machine in gives it: a key's properties, or an administrator's decision."""

    owner: int = MEMBERS_USER_ID
    tags: tuple[str, ...] = ()
    ephemeral: bool = False
    key: AuthKey | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """Create the node, or renew the node of this machine and owner in place."""

    grant: Grant
    existing: Node | None


Outcome = Refused | LoggedOut | ExpiryShortened | Unchanged | NewNodeKeyWanted | ApprovalWanted | Admitted


def grant_of(key: AuthKey) -> Grant:
    return Grant(key.owner, key.tags, key.ephemeral, key)


def secret_hash(text: str) -> str:
    """What is stored of a pre-auth key."""
    return hashlib.sha256(text.strip().encode()).hexdigest()


def presented_hash(request: RegisterRequest) -> str:
    """The hash of the key a request carries."""
    return secret_hash(_auth_key(request))


def decide(
    request: RegisterRequest,
    machine: MachinePublic,
    snapshot: Snapshot,
    now: datetime,
    owners: TagOwners | None = None,
) -> Outcome:
    """The outcome of a register request from a machine that proved its key.

    Without `owners` there is no policy: tags come from keys and administrators alone, whatever is asked for.
    """
    outcome = _decide(request, machine, snapshot, now)
    return outcome if owners is None else _with_tags(outcome, request, owners)


def _with_tags(outcome: Outcome, request: RegisterRequest, owners: TagOwners) -> Outcome:
    requested = request.hostinfo.request_tags if request.hostinfo is not None else ()
    match outcome:
        case Admitted(grant=grant) if requested:
            refused = unpermitted(requested, grant.owner, grant.tags, owners)
            if refused:
                return Refused(Refusal.TAGS, refused)
            tags = tuple(sorted({*grant.tags, *requested}))
            return dataclasses.replace(outcome, grant=dataclasses.replace(grant, tags=tags))
        case Unchanged(node=node) if requested and not set(requested) <= set(node.tags):
            refused = unpermitted(requested, node.owner, node.tags, owners)
            if refused:
                return Refused(Refusal.TAGS, refused)
            return dataclasses.replace(outcome, tags=tuple(sorted(set(requested))))
    return outcome


def _decide(request: RegisterRequest, machine: MachinePublic, snapshot: Snapshot, now: datetime) -> Outcome:
    if request.version < MIN_CAPABILITY_VERSION:
        return Refused(Refusal.VERSION)
    if request.node_key.is_zero:
        return Refused(Refusal.NODE_KEY)
    node = snapshot.node_by_key(request.node_key)
    if node is not None and node.machine_key != machine:
        return Refused(Refusal.FOREIGN_NODE_KEY)
    expiry = request.expiry
    if expiry is not None and expiry <= now:
        return LoggedOut(node, delete=request.ephemeral or (node is not None and node.ephemeral))
    if node is not None and not node.expired(now):
        return _decide_live(request, node, expiry, snapshot, now)
    if not _auth_key(request):
        return ApprovalWanted() if node is None else NewNodeKeyWanted(node)
    return _decide_key(_auth_key(request), node, machine, snapshot, now)


def _decide_live(
    request: RegisterRequest, node: Node, expiry: datetime | None, snapshot: Snapshot, now: datetime
) -> Outcome:
    if node.disabled:
        return Refused(Refusal.DISABLED)
    if expiry is not None:
        if node.expiry is not None and expiry >= node.expiry:
            return Refused(Refusal.LATER_EXPIRY)
        return ExpiryShortened(node, expiry)
    key = snapshot.key_by_hash(secret_hash(_auth_key(request))) if _auth_key(request) else None
    if key is not None and key.owner != node.owner and _usable(key, now):
        return Refused(Refusal.FOREIGN_USER)
    if key is not None and key.reusable and key.id != node.auth_key_id and not _key_expired(key, now):
        return Unchanged(node, rebind=key)
    return Unchanged(node)


def _decide_key(
    text: str, node: Node | None, machine: MachinePublic, snapshot: Snapshot, now: datetime
) -> Outcome:
    key = snapshot.key_by_hash(secret_hash(text))
    if key is None:
        return Refused(Refusal.UNKNOWN_KEY)
    if _key_expired(key, now):
        return Refused(Refusal.EXPIRED_KEY)
    if key.used_at is not None and not key.reusable:
        return Refused(Refusal.USED_KEY)
    if node is not None and node.owner != key.owner:
        # Two nodes cannot share a node key: the new owner's gets one of its own, and the key is not used yet.
        return NewNodeKeyWanted(node)
    existing = node or snapshot.node_by_machine(machine, key.owner)
    if existing is not None and existing.disabled:
        return Refused(Refusal.DISABLED)
    return Admitted(grant_of(key), existing)


def _usable(key: AuthKey, now: datetime) -> bool:
    return not _key_expired(key, now) and (key.reusable or key.used_at is None)


def _auth_key(request: RegisterRequest) -> str:
    return request.auth.auth_key.strip() if request.auth else ""


def _key_expired(key: AuthKey, now: datetime) -> bool:
    return key.expiry is not None and key.expiry <= now
