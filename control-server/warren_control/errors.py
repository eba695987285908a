"""What can go wrong in the control server, as one tree.

ControlError
├── ConfigError     the configuration or the state on disk cannot be used; the text says how to mend it
├── NotFoundError        the record named does not exist
├── ConflictError        the request contradicts the state (a name or an address is taken)
├── InvalidError         a value given by a person or a node is not acceptable
├── PoolExhaustedError   no address is left to give away
└── UnavailableError     records cannot be stored at the moment; nothing was changed
"""

from __future__ import annotations


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


class PoolExhaustedError(ControlError):
    """Every address of a pool is in use."""


class UnavailableError(ControlError):
    """The database does not take records now: it is full, locked or away."""
