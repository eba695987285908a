"""Reads from an agent's log why it was not let in. Pure."""

from __future__ import annotations

import json
from typing import Final

REFUSED: Final = "the control server refused to register this node"
"""The sentence of the agent's log whose `reason` is the control server's answer."""
MAX_REASON: Final = 300


def last_refusal(log: str) -> str | None:
    """The reason of the newest refusal in a log of JSON lines or of text lines."""
    for line in reversed(log.splitlines()):
        if REFUSED in line:
            return _reason(line)[:MAX_REASON]
    return None


def _reason(line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        _, _, text = line.partition(" reason=")
        return text.strip().strip('"') or "no reason given"
    reason = value.get("reason") if isinstance(value, dict) else None
    return reason if isinstance(reason, str) and reason else "no reason given"
