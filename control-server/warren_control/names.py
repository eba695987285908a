"""DNS labels of nodes: what a host name becomes, and what happens when two want the same."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

from warren_control.errors import InvalidError

MAX_LABEL: Final = 63
FALLBACK: Final = "node"
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DOMAIN: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_TAG: Final = re.compile(r"tag:[A-Za-z][A-Za-z0-9-]*")
# A label that would make the client resolve its own machine.
_MEANINGLESS: Final = frozenset({"localhost", ""})


def label_from(hostname: str) -> str:
    """A valid DNS label made from whatever a machine calls itself; the domain part is dropped."""
    first = hostname.strip().lower().split(".", 1)[0]
    label = re.sub(r"[^a-z0-9]+", "-", first)[:MAX_LABEL].strip("-")
    return FALLBACK if label in _MEANINGLESS else label


def unique_label(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or `wanted-1`, `wanted-2`, … when it is taken."""
    if wanted not in taken:
        return wanted
    number = 1
    while True:
        suffix = f"-{number}"
        candidate = wanted[: MAX_LABEL - len(suffix)].rstrip("-") + suffix
        if candidate not in taken:
            return candidate
        number += 1


def check_label(label: str) -> str:
    """A label given by a person, lower-cased, or `InvalidError`."""
    lowered = label.strip().lower()
    if not _LABEL.fullmatch(lowered):
        raise InvalidError(
            f"{label!r} is not a DNS label: letters, digits and inner dashes, at most {MAX_LABEL}"
        )
    return lowered


def is_tag(text: str) -> bool:
    """Whether `text` is a tag as stock clients accept it."""
    return len(text) <= 128 and bool(_TAG.fullmatch(text))


def is_domain(text: str) -> bool:
    """Whether `text` is a DNS domain without a trailing dot."""
    return len(text) <= 190 and bool(_DOMAIN.fullmatch(text))
