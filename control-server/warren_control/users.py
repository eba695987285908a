"""People who own machines and keys. Pure: wish and snapshot in, a record or an error out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from warren_control.errors import ConflictError, InvalidError, NotFoundError
from warren_control.model import MEMBERS_USER_ID, Snapshot, User
from warren_control.policy.network import Role

MAX_NAME: Final = 64
MAX_DISPLAY_NAME: Final = 128
MAX_EMAIL: Final = 254
ROLES: Final = frozenset(role.value for role in Role)
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._@+-]*[a-z0-9])?")
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\"]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
# The owner that stock clients show for tagged machines; a person of that name would mislead.
_RESERVED: Final = frozenset({"tagged-devices"})


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be different about a user; `None` leaves it as it is."""

    name: str | None = None
    display_name: str | None = None
    email: str | None = None
    roles: tuple[str, ...] | None = None


def new_user(wish: Wish, snapshot: Snapshot, now: datetime) -> User:
    """A user nobody else is."""
    name = check_name(wish.name or "")
    return changed(User(snapshot.next_user_id, name, name, now), wish, snapshot)


def changed(user: User, wish: Wish, snapshot: Snapshot) -> User:
    """The user after the wish; all of it or an error."""
    name = user.name if wish.name is None else check_name(wish.name)
    email = user.email if wish.email is None else check_email(wish.email)
    for other in snapshot.users.values():
        if other.id != user.id and other.name == name:
            raise ConflictError(f"there is a user {name} already")
        if other.id != user.id and email and email == other.email:
            raise ConflictError(f"{other.name} has the e-mail address {email} already")
    shown = user.display_name if wish.display_name is None else _display(wish.display_name) or name
    roles = user.roles if wish.roles is None else check_roles(wish.roles)
    return User(user.id, name, shown, user.created, email, roles)


def check_email(email: str) -> str:
    """An e-mail address as policies compare it, or none."""
    text = email.strip()
    if text and (len(text) > MAX_EMAIL or not _EMAIL.fullmatch(text)):
        raise InvalidError(f"{email[:MAX_NAME]!r} is not an e-mail address")
    return text


def check_roles(roles: tuple[str, ...]) -> frozenset[str]:
    for role in roles:
        if role not in ROLES:
            raise InvalidError(f"{role[:MAX_NAME]!r} is not a role; there are {', '.join(sorted(ROLES))}")
    return frozenset(roles)


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
