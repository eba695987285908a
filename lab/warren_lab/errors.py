"""What the lab raises: one tree, texts that say what to do."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what was asked; the text says what and how to fix it."""


class ToolError(LabError):
    """A program could not be built, fetched or found."""


class NetworkError(LabError):
    """A network could not be built or changed."""


class ProcessError(LabError):
    """A program of the lab failed or did not get ready."""
