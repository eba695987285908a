"""What can go wrong with an order."""

from __future__ import annotations


class AcmeError(Exception):
    """No certificate this time; the text says why. `limited`: the CA wants fewer orders."""

    def __init__(self, text: str, *, limited: bool = False) -> None:
        super().__init__(text)
        self.limited = limited
