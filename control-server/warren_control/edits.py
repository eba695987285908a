"""What an administrator may change of a node. Pure: node, wish and snapshot in, the new record out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

import msgspec

from warren_control import names, routes
from warren_control.allocation import Pools, pinned
from warren_control.errors import ConflictError, InvalidError
from warren_control.model import Node, Snapshot


@dataclass(frozen=True, slots=True)
class Edit:
    """The fields to change; `None` leaves one as it is."""

    name: str | None = None
    approved_routes: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    disabled: bool | None = None
    addresses: tuple[str, ...] | None = None
    expiry: datetime | msgspec.UnsetType | None = msgspec.UNSET
    """`None`: it never expires."""


def edited(node: Node, edit: Edit, snapshot: Snapshot, pools: Pools, now: datetime) -> Node:
    """The node after the edit; all of it or an error."""
    if edit.name is not None:
        label = names.check_label(edit.name)
        if label in snapshot.names(without=node.id):
            raise ConflictError(f"the name {label} belongs to another node")
        node = dataclasses.replace(node, name=label, name_pinned=True)
    if edit.approved_routes is not None:
        node = dataclasses.replace(node, approved_routes=routes.parse_prefixes(edit.approved_routes))
    if edit.tags is not None:
        node = dataclasses.replace(node, tags=_tags(edit.tags))
    if edit.disabled is not None:
        node = dataclasses.replace(node, disabled=edit.disabled)
    if edit.expiry is not msgspec.UNSET:
        if edit.expiry is not None and edit.expiry.tzinfo is None:
            raise InvalidError("expiry must say its time zone, such as 2027-01-31T12:00:00Z")
        node = dataclasses.replace(node, expiry=edit.expiry, expiry_disabled=edit.expiry is None)
    if edit.addresses is not None:
        v4, v6 = pinned(edit.addresses, pools, snapshot.used_addresses(now), own=node.addresses)
        node = dataclasses.replace(node, v4=v4 or node.v4, v6=v6 or node.v6)
    return node


def _tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    for tag in tags:
        if not names.is_tag(tag):
            raise InvalidError(f"{tag!r} is not a tag: `tag:`, a letter, then letters, digits and dashes")
    return tuple(sorted(set(tags)))
