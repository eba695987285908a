"""What to do about a Mesh's policy, and what to say of it. Pure.

The policy in the Mesh is the truth while it is there; what somebody sets at the control server meanwhile is
replaced. One that the operator did not put is never taken away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from warren_operator.conditions import Condition
from warren_operator.errors import ControlApiError
from warren_operator.kinds import Manifest
from warren_operator.machines import PolicyInForce, refusal

POLICY_ACCEPTED: Final = "PolicyAccepted"
AUTHOR: Final = "operator"
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Put:
    text: str
    version: int
    """Only in place of this version."""
    tested: bool
    """Failing tests in it refuse it. Not in place of no policy: their machines may not have joined yet, and
    without a policy everything may talk to everything."""


@dataclass(frozen=True, slots=True)
class Remove:
    version: int


Step = Put | Remove | None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def step(wanted: str | None, in_force: PolicyInForce, status: Manifest) -> Step:
    """`wanted` is the text of the Mesh, None where it has none; `status` what was written about it before."""
    if wanted is not None:
        return None if wanted == in_force.text else Put(wanted, in_force.version, tested=bool(in_force.text))
    return Remove(in_force.version) if in_force.text and _is_ours(in_force, status) else None


def _is_ours(in_force: PolicyInForce, status: Manifest) -> bool:
    if in_force.author == AUTHOR:
        return True
    known = status.get("policy") or {}
    return known.get("acceptedGeneration") is not None and known.get("hash") == digest(in_force.text)


def own_fields(in_force: PolicyInForce, source: str, generation: int) -> Manifest:
    """`status.policy` where the policy in force is the Mesh's own."""
    return {**_fields(in_force), "source": source, "acceptedGeneration": generation}


def other_fields(in_force: PolicyInForce, status: Manifest) -> Manifest | None:
    """`status.policy` where it came another way; nothing if there is none."""
    if not in_force.text:
        return None
    fields = {**_fields(in_force), "source": in_force.source}
    # A merge patch takes a field away only by name, and one that is not there stays unwritten.
    gone = "acceptedGeneration" in (status.get("policy") or {})
    return {**fields, "acceptedGeneration": None} if gone else fields


def _fields(in_force: PolicyInForce) -> Manifest:
    return {"version": in_force.version, "hash": digest(in_force.text)}


def accepted(in_force: PolicyInForce) -> Condition:
    text = f"version {in_force.version} is in force"
    if in_force.warnings:
        text += f"; {_listed([_placed(one.line, one.column, one.message, '') for one in in_force.warnings])}"
    return Condition.met(POLICY_ACCEPTED, "Accepted", text)


def refused(error: ControlApiError) -> Condition:
    """The reason that somebody reads and repairs; the last good policy stays in force."""
    found = refusal(error.document)
    problems = [_placed(one.line, one.column, one.message, one.hint) for one in found.problems]
    failed = [_placed(one.line, 0, f"{one.path}: {one.message}", "") for one in found.tests if not one.passed]
    if problems:
        return Condition.unmet(POLICY_ACCEPTED, "Invalid", _listed(problems))
    if failed:
        return Condition.unmet(POLICY_ACCEPTED, "TestsFailed", _listed(failed))
    if error.status == 409:
        return Condition.unmet(POLICY_ACCEPTED, "ManagedElsewhere", str(error))
    if 400 <= error.status < 500 and error.status != 412:
        return Condition.unmet(POLICY_ACCEPTED, "Invalid", str(error))
    return waiting(str(error))


def waiting(why: str) -> Condition:
    return Condition.unknown(POLICY_ACCEPTED, "Waiting", why)


def not_found(what: str) -> Condition:
    return Condition.unmet(POLICY_ACCEPTED, "NotFound", what)


def elsewhere() -> Condition:
    text = "this Mesh joins a control server elsewhere: give spec.policy to the Mesh that runs it"
    return Condition.unmet(POLICY_ACCEPTED, "ManagedElsewhere", text)


def _placed(line: int, column: int, message: str, hint: str) -> str:
    place = f"line {line}, column {column}" if column else f"line {line}"
    return f"{place}: {message} ({hint})" if hint else f"{place}: {message}"


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _SHOWN
    return "; ".join([*texts[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])
