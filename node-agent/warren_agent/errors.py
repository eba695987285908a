"""The agent's errors. Foreign exceptions are translated into one of these by the adapter that meets them.

AgentError
├── SetupError       this host cannot run the agent as asked; one line that says what and how to fix it
├── StateError       a file of ours in the state folder is unusable
├── KernelError      the kernel refused a change
└── ControlError     the control server cannot be reached or refused
    ├── RegistrationError   it answered and said no, with the reason in its own words
    └── UnknownNodeError           it no longer knows this node: register again
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of everything the agent raises by itself."""


class SetupError(AgentError):
    """Ends the program with exit code 2; nothing is left behind."""


class StateError(AgentError):
    """A file in the state folder cannot be read, written or understood."""


class KernelError(AgentError):
    """A netlink or nftables request failed."""


class ControlError(AgentError):
    """The control server is out of reach, or answered in a way that cannot be used."""


class RegistrationError(ControlError):
    """The control server refused to register this node."""


class UnknownNodeError(ControlError):
    """The control server does not know this node key any more."""
