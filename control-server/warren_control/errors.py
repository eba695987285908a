"""What can go wrong in the control server, as one tree.

ControlError
├── ConfigError     the configuration or the state on disk cannot be used; the text says how to mend it
├── NotFoundError        the record named does not exist
├── ConflictError        the request contradicts the state (a name or an address is taken)
├── StaleVersionError    somebody else changed the record meanwhile
├── InvalidError         a value given by a person or a node is not acceptable
│   └── PolicyRefusedError   a policy does not come into force; it carries every reason
├── PoolExhaustedError   no address is left to give away
└── UnavailableError     records cannot be stored at the moment; nothing was changed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from warren_control.policies.examination import Examination

_SHOWN_REASONS: Final = 5


class ControlError(Exception):
    """Base of every error this component raises on purpose."""


class ConfigError(ControlError):
    """The server cannot start like this; every problem is listed."""

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
        super().__init__("; ".join(self.problems))


class NotFoundError(ControlError):
    """No such record."""


class ConflictError(ControlError):
    """The request contradicts what is stored."""


class InvalidError(ControlError):
    """A value is not acceptable; nothing was changed."""


class StaleVersionError(ControlError):
    """The record has another version than the one that was to be replaced."""

    def __init__(self, current: int) -> None:
        self.current = current
        super().__init__(f"it was changed meanwhile: the current version is {current}")


class PolicyRefusedError(InvalidError):
    """A policy is not accepted; the last one stays in force."""

    def __init__(self, found: Examination) -> None:
        self.found = found
        reasons = found.reasons
        more = len(reasons) - _SHOWN_REASONS + found.more_problems
        shown = "; ".join(reasons[:_SHOWN_REASONS])
        super().__init__(f"{shown}; and {more} more" if more > 0 else shown)


class PoolExhaustedError(ControlError):
    """Every address of a pool is in use."""


class UnavailableError(ControlError):
    """The database does not take records now: it is full, locked or away."""
