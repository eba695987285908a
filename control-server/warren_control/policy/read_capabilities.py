"""Capability names and their values, in grants and in nodeAttrs."""

from __future__ import annotations

import re
from typing import Final

from warren_control.policy.document import Capabilities, frozen_mapping
from warren_control.policy.hujson import Json, Value, plain
from warren_control.policy.problems import ProblemList, quoted
from warren_control.policy.reading import entries, items

# Names in Tailscale's own domain that a user may grant; the others are given by the service alone.
GRANTABLE: Final = frozenset(
    f"tailscale.com/cap/{name}" for name in ("drive", "relay", "webui", "kubernetes", "tsidp", "secrets")
)
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?/\S+")


def read_capabilities(problems: ProblemList, value: Value, where: str, *, reserved: bool) -> Capabilities:
    """Capability to its values. `reserved`: names of Tailscale's own domain are refused."""
    found: dict[str, tuple[Json, ...]] = {}
    for member in entries(problems, value, where):
        name, offset = member.name.value, member.name.offset
        path = f"{where}[{quoted(name)}]"
        if "://" in name or len(name) > 200 or not _NAME.fullmatch(name):
            text = "capability name must have the form {domain}/{path}"
            problems.add(offset, path, text, "a name like example.com/cap/x")
        elif reserved and name.startswith("tailscale.com/") and name not in GRANTABLE:
            text = "capability name must not be in the tailscale.com domain"
            problems.add(offset, path, text, "a name of another domain", name=name, candidates=GRANTABLE)
        else:
            found[name] = tuple(plain(one) for one in items(problems, member.value, path))
    return frozen_mapping(found)
