"""What others must be told when a node becomes another value. Pure: two nodes in, one change out."""

from __future__ import annotations

from typing import Final

from warren_control.changes import NOTHING, Change, Patch, patched, whole, whole_and_self
from warren_control.hosts import shown_hostinfo
from warren_control.model import Node

# What the node itself is told too. None of these has a patch, nor has `Expired`.
_OWN: Final = ("name", "v4", "v6", "tags", "effective_routes", "disabled", "machine_key", "expiry")


def difference(old: Node | None, new: Node) -> Change:
    """The change from `old` (`None`: it is new) to `new`.

    Measurements such as relay latencies, and endpoints that only went away, are told to nobody: they
    change all the time and nobody would act on them.
    """
    if old is None:
        return whole(new.id)
    if old is new:
        return NOTHING
    if any(getattr(old, name) != getattr(new, name) for name in _OWN):
        return whole_and_self(new.id)
    if old.hostinfo is not new.hostinfo and shown_hostinfo(old.hostinfo) != shown_hostinfo(new.hostinfo):
        return whole(new.id)
    patch = Patch(0)
    if not set(new.endpoints) <= set(old.endpoints):
        patch |= Patch.ENDPOINTS
    if new.home_region != old.home_region:
        patch |= Patch.HOME
    if new.disco_key != old.disco_key:
        patch |= Patch.DISCO
    if new.node_key != old.node_key:
        patch |= Patch.KEY
    if new.online != old.online:
        patch |= Patch.ONLINE
    if new.capability_version != old.capability_version:
        patch |= Patch.VERSION
    return patched(new.id, patch) if patch else NOTHING


def worth_storing(old: Node, new: Node) -> bool:
    """Whether a report changed something that a restart must not forget."""
    return (
        old.hostinfo != new.hostinfo
        or old.home_region != new.home_region
        or old.disco_key != new.disco_key
        or old.capability_version != new.capability_version
        or old.approved_routes != new.approved_routes
        or old.name != new.name
    )
