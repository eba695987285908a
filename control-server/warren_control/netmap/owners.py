"""Whom clients show as the owners of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from warren_control.mappings import differing
from warren_control.model import TAGGED_USER_ID, Node, Snapshot
from warren_wire.control import messages
from warren_wire.control.messages import prepare

TAGGED: Final = messages.UserProfile(
    id=TAGGED_USER_ID, login_name="tagged-devices", display_name="Tagged Devices"
)


def profile_of(snapshot: Snapshot, owner: int) -> messages.UserProfile:
    """Whom clients show as the owner that nodes have as their `user_id`."""
    if owner == TAGGED_USER_ID:
        return TAGGED
    user = snapshot.users.get(owner)
    if user is None:
        return messages.UserProfile(id=owner, login_name="unknown", display_name="Unknown")
    return messages.UserProfile(id=user.id, login_name=user.name, display_name=user.display_name)


def profiles(snapshot: Snapshot, owners: Iterable[int]) -> tuple[msgspec.Raw, ...]:
    """A profile for each owner: stock clients answer no `whois` for a node whose owner they were not told."""
    return tuple(prepare(profile_of(snapshot, owner)) for owner in sorted(set(owners)))


class Ownership:
    """Counts what each owner owns; a change of the mesh costs as much as it changes."""

    def __init__(self) -> None:
        self._nodes: Mapping[int, Node] = {}
        self._owned: Counter[int] = Counter()

    def owners(self, snapshot: Snapshot) -> Collection[int]:
        """All who own something."""
        self._follow(snapshot)
        return self._owned.keys()

    def new_among(self, snapshot: Snapshot, changed: Iterable[Node]) -> bool:
        """Whether the owner of one of these nodes owns nothing else, and so may be new to everybody."""
        self._follow(snapshot)
        here = Counter(node.user_id for node in changed)
        return any(self._owned[owner] <= count for owner, count in here.items())

    def _follow(self, snapshot: Snapshot) -> None:
        for number in differing(self._nodes, snapshot.nodes):
            old, new = self._nodes.get(number), snapshot.nodes.get(number)
            if new is not None:
                self._owned[new.user_id] += 1
            if old is not None:
                self._owned[old.user_id] -= 1
                if not self._owned[old.user_id]:
                    del self._owned[old.user_id]
        self._nodes = snapshot.nodes
