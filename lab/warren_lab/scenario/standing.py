"""What is built when a context is entered, and taken down when it ends or when building fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import Self


class Standing(ABC):
    """Give `_stack` whatever must not outlive the context."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    @abstractmethod
    def _build(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
