"""Errors of the operator; adapters translate the exceptions of the libraries they call into these."""

from __future__ import annotations


class OperatorError(Exception):
    """Anything the operator reports and tries again."""


class ConfigError(OperatorError):
    """The operator's own settings are wrong; carries one line per problem."""


class InvalidResourceError(OperatorError):
    """A custom resource that the API server let through cannot be used; carries every problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ClusterError(OperatorError):
    """The Kubernetes API did not do what was asked."""


class NotFoundError(ClusterError):
    """No such object."""


class ConflictError(ClusterError):
    """The object exists already, or was changed meanwhile."""


class RefusedError(ClusterError):
    """The API server understood and said no: invalid, forbidden, immutable."""


class ControlApiError(OperatorError):
    """The control server did not do what was asked; carries its status, 0 if it did not answer."""

    def __init__(self, text: str, status: int = 0, document: bytes = b"") -> None:
        super().__init__(text)
        self.status = status
        self.document = document
        """The problem document it sent, as JSON."""
