"""How two nodes reach each other when packets begin to flow: answered when, direct when."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from typing import Final

from warren_lab.errors import ProcessError
from warren_lab.scenario.nodes import Node, Via
from warren_lab.scenario.probe import Probe

ANSWER_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.1


class Reach(enum.IntEnum):
    """How two nodes reach each other; more is better."""

    NOTHING = 0
    RELAYED = 1
    DIRECT = 2

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Observation:
    """Seconds count from the first packet that was sent."""

    reach: Reach
    answer_seconds: float | None = None
    direct_seconds: float | None = None
    note: str = ""
    endpoint: str | None = None
    """Where the far node sends what is for the near one, once that goes directly."""


def observe(near: Node, far: Node, patience_seconds: float) -> Observation:
    """Send from the near node until both say that they send directly, or for so many seconds."""
    with Probe(near.namespace, far.address) as probe:
        began = time.monotonic()
        try:
            answered = probe.wait_for_answer(began, ANSWER_SECONDS) - began
        except ProcessError as error:
            return Observation(Reach.NOTHING, note=str(error))
        while time.monotonic() < began + patience_seconds:
            if both_direct(near, far):
                took = time.monotonic() - began
                return Observation(Reach.DIRECT, answered, took, endpoint=far.endpoint(near.address))
            time.sleep(POLL_SECONDS)
        return Observation(Reach.RELAYED, answered, note=_one_sided(near, far))


def both_direct(one: Node, other: Node) -> bool:
    """Whether both say that they send to each other directly."""
    return one.via(other.address) is Via.DIRECT and other.via(one.address) is Via.DIRECT


def _one_sided(near: Node, far: Node) -> str:
    for title, node, other in (("near", near, far), ("far", far, near)):
        if node.via(other.address) is Via.DIRECT:
            return f"only the {title} node sends directly"
    return ""
