"""People who own machines and keys. Pure: wish and snapshot in, a record or an error out."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from warren_control.errors import ConflictError, InvalidError, NotFoundError
from warren_control.model import MEMBERS_USER_ID, Snapshot, User

MAX_NAME: Final = 64
MAX_DISPLAY_NAME: Final = 128
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._@+-]*[a-z0-9])?")
# The owner that stock clients show for tagged machines; a person of that name would mislead.
_RESERVED: Final = frozenset({"tagged-devices"})


def new_user(name: str, display_name: str, snapshot: Snapshot, now: datetime) -> User:
    """A user nobody else is."""
    checked = check_name(name)
    if snapshot.user_by_name(checked) is not None:
        raise ConflictError(f"there is a user {checked} already")
    return User(snapshot.next_user_id, checked, _display(display_name) or checked, now)


def renamed(user: User, name: str | None, display_name: str | None, snapshot: Snapshot) -> User:
    """The user under another name."""
    wanted = user.name if name is None else check_name(name)
    other = snapshot.user_by_name(wanted)
    if other is not None and other.id != user.id:
        raise ConflictError(f"there is a user {wanted} already")
    shown = user.display_name if display_name is None else _display(display_name) or wanted
    return User(user.id, wanted, shown, user.created)


def check_removable(user: User, snapshot: Snapshot) -> None:
    """A user who still owns machines stays; so does the owner of everything that names no other."""
    if user.id == MEMBERS_USER_ID:
        raise ConflictError(f"{user.name} owns what no other user owns and cannot be removed")
    owned = [node.name for node in snapshot.nodes.values() if node.owner == user.id]
    if owned:
        shown = ", ".join(sorted(owned)[:3])
        raise ConflictError(f"{user.name} still owns {len(owned)} machines ({shown}): remove those first")


def check_name(name: str) -> str:
    """A login name, lower-cased, or `InvalidError`."""
    lowered = name.strip().lower()
    if len(lowered) > MAX_NAME or not _NAME.fullmatch(lowered) or lowered in _RESERVED:
        raise InvalidError(
            f"{name[:MAX_NAME]!r} is not a user name: letters, digits and inner ._@+- , at most {MAX_NAME}"
        )
    return lowered


def named(name: str, snapshot: Snapshot) -> User:
    """The user of that name."""
    user = snapshot.user_by_name(name.strip().lower())
    if user is None:
        raise NotFoundError(f"there is no user {name[:MAX_NAME]}")
    return user


def _display(text: str) -> str:
    shown = " ".join(text.split())
    if len(shown) > MAX_DISPLAY_NAME or not shown.isprintable():
        raise InvalidError(f"a display name has at most {MAX_DISPLAY_NAME} printable characters")
    return shown
