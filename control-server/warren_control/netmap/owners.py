"""Whom clients show as the owners of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from warren_control.model import TAGGED_USER_ID, Node, Snapshot
from warren_wire.control import messages
from warren_wire.control.messages import prepare

TAGGED: Final = messages.UserProfile(
    id=TAGGED_USER_ID, login_name="tagged-devices", display_name="Tagged Devices"
)


def profile_of(snapshot: Snapshot, node: Node) -> messages.UserProfile:
    """Whom clients show as the owner."""
    user = snapshot.users.get(node.owner)
    if node.tags:
        return TAGGED
    if user is None:
        return messages.UserProfile(id=node.owner, login_name="unknown", display_name="Unknown")
    return messages.UserProfile(id=user.id, login_name=user.name, display_name=user.display_name)


def profiles(snapshot: Snapshot, nodes: Iterable[Node]) -> tuple[msgspec.Raw, ...]:
    """A profile for each owner: stock clients answer no `whois` for a node whose owner they were not told."""
    owners = {node.user_id: node for node in nodes}
    return tuple(prepare(profile_of(snapshot, node)) for _, node in sorted(owners.items()))


class NewOwners:
    """Tells owners whom everybody knows from those who may be new; counts once per set of nodes."""

    def __init__(self) -> None:
        self._nodes: Mapping[int, Node] | None = None
        self._owned: Counter[int] = Counter()

    def among(self, snapshot: Snapshot, changed: Iterable[Node]) -> bool:
        """Whether one of these nodes' owners owns nothing else."""
        if self._nodes is not snapshot.nodes:
            self._nodes = snapshot.nodes
            self._owned = Counter(node.user_id for node in snapshot.nodes.values())
        here = Counter(node.user_id for node in changed)
        return any(self._owned[owner] <= count for owner, count in here.items())
