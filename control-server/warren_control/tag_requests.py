"""Tags that a machine asks for itself (`--advertise-tags`): who may have them. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from warren_control import names


class TagOwners(Protocol):
    """Knows who may give a machine a tag."""

    def permits(self, owner: int, carried: Collection[str], tag: str) -> bool:
        """Whether a user, or a machine or key that carries some tags already, may."""
        ...


def unpermitted(
    requested: Collection[str], owner: int, carried: Collection[str], owners: TagOwners
) -> tuple[str, ...]:
    """The tags asked for that may not be had; all or nothing is granted."""
    return tuple(
        sorted(
            tag
            for tag in frozenset(requested).difference(carried)
            if not names.is_tag(tag) or not owners.permits(owner, carried, tag)
        )
    )
