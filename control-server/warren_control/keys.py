"""Making pre-auth keys, and taking in those given from outside."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from warren_control.config import BootstrapKey
from warren_control.keyfiles import read_secret
from warren_control.model import MEMBERS_USER_ID, AuthKey, Snapshot
from warren_control.registration import secret_hash
from warren_control.routes import Prefix

PREFIX: Final = "warren-auth"
MIN_SECRET: Final = 20


def new_key(
    now: datetime,
    *,
    reusable: bool,
    ephemeral: bool,
    expiry: datetime | None,
    tags: tuple[str, ...],
    approve_routes: tuple[Prefix, ...],
    owner: int = MEMBERS_USER_ID,
) -> tuple[AuthKey, str]:
    """A key's record and its text, which is shown once and not kept."""
    key_id = secrets.token_hex(6)
    text = f"{PREFIX}-{key_id}-{secrets.token_urlsafe(32)}"
    record = AuthKey(
        id=key_id,
        secret_hash=secret_hash(text),
        created=now,
        owner=owner,
        reusable=reusable,
        ephemeral=ephemeral,
        expiry=expiry,
        tags=tags,
        approve_routes=approve_routes,
    )
    return record, text


def bootstrap_records(keys: Iterable[BootstrapKey], snapshot: Snapshot, now: datetime) -> list[AuthKey]:
    """Records to store for the configured keys: new ones, and known ones whose settings changed."""
    changed = []
    for key in keys:
        hashed = secret_hash(read_secret(key.secret_file, "bootstrap_keys", least=MIN_SECRET))
        known = snapshot.key_by_hash(hashed)
        base = known or AuthKey(id=f"bootstrap-{hashed[:12]}", secret_hash=hashed, created=now)
        wanted = replace(
            base,
            reusable=key.reusable,
            ephemeral=key.ephemeral,
            tags=key.tags,
            approve_routes=key.approve_routes,
            bootstrap=True,
        )
        if wanted != known:
            changed.append(wanted)
    return changed
