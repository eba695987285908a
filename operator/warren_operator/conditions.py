"""Status conditions as the API conventions have them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from warren_operator.kinds import Manifest


class Truth(Enum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    status: Truth
    reason: str
    message: str = ""

    @classmethod
    def met(cls, kind: str, reason: str, message: str = "") -> Condition:
        return cls(kind, Truth.TRUE, reason, message)

    @classmethod
    def unmet(cls, kind: str, reason: str, message: str = "") -> Condition:
        return cls(kind, Truth.FALSE, reason, message)

    @classmethod
    def unknown(cls, kind: str, reason: str, message: str = "") -> Condition:
        return cls(kind, Truth.UNKNOWN, reason, message)


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should see in `kubectl describe`."""

    warning: bool
    reason: str
    message: str


def merged(
    old: Sequence[Manifest], new: Iterable[Condition], generation: int, now: datetime
) -> list[Manifest]:
    """The list to write; a condition whose status stays keeps the time it changed."""
    known = {condition.get("type"): condition for condition in old}
    return [_shown(condition, known.get(condition.type), generation, now) for condition in new]


FAULTS: Final = frozenset(
    {
        "Invalid",
        "NotApplied",
        "JoinRefused",
        "Refused",
        "HostsTaken",
        "TestsFailed",
        "NotFound",
        "ManagedElsewhere",
    }
)
"""Reasons that a person has to do something about, however new the resource is."""


def notes(old: Sequence[Manifest], new: Iterable[Condition]) -> list[Note]:
    """One for each condition that tells something new.

    What is not met yet is the ordinary course of things; what was met before, or will not be by itself, is a
    warning. The summary is told only where it says what no other condition says.
    """
    known = {item.get("type"): (item.get("status"), item.get("reason"), item.get("message")) for item in old}
    conditions = list(new)
    parts = {condition.message for condition in conditions if condition.type != "Ready"}
    found = []
    for condition in conditions:
        before = known.get(condition.type)
        if before == (condition.status.value, condition.reason, condition.message):
            continue
        was_met = before is not None and before[0] == Truth.TRUE.value
        is_met = condition.status is Truth.TRUE
        if condition.status is Truth.UNKNOWN or (is_met and was_met):
            continue
        if condition.type == "Ready" and not is_met and condition.message in parts:
            continue
        warning = not is_met and (was_met or condition.reason in FAULTS)
        text = f"{condition.type}: {condition.message}" if condition.message else condition.type
        found.append(Note(warning, condition.reason, text))
    return found


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(condition: Condition, old: Manifest | None, generation: int, now: datetime) -> Manifest:
    since = rfc3339(now)
    if old is not None and old.get("status") == condition.status.value and old.get("lastTransitionTime"):
        since = old["lastTransitionTime"]
    return {
        "type": condition.type,
        "status": condition.status.value,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": condition.reason,
        "message": condition.message[:4000],
    }
