"""Many members, one timer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from support.eventually import eventually
from warren_runtime.pulse import Pulse


@dataclass(eq=False)
class Member:
    beats: int = 0
    beat_at: int = 0

    def beat(self) -> None:
        self.beats += 1


async def test_each_member_beats_once_until_it_is_added_again() -> None:
    pulse = Pulse(0.02, 0.01)
    members = [Member() for _ in range(100)]
    for member in members:
        pulse.add(member)
    await eventually(lambda: all(member.beats == 1 for member in members))
    pulse.add(members[0])
    await eventually(lambda: members[0].beats == 2)
    assert [member.beats for member in members[1:]] == [1] * 99


async def test_a_member_that_left_does_not_beat_and_leaving_twice_is_harmless() -> None:
    pulse = Pulse(0.02, 0.0)
    stays, leaves = Member(), Member()
    for member in (stays, leaves):
        pulse.add(member)
    pulse.discard(leaves)
    pulse.discard(leaves)
    await eventually(lambda: stays.beats == 1)
    assert leaves.beats == 0


async def test_no_beat_comes_before_the_interval() -> None:
    pulse = Pulse(0.05, 0.02)
    member = Member()
    began = asyncio.get_running_loop().time()
    pulse.add(member)
    await eventually(lambda: member.beats == 1)
    assert asyncio.get_running_loop().time() - began >= 0.05


async def test_a_member_may_leave_or_come_back_while_it_beats() -> None:
    pulse = Pulse(0.01, 0.0)

    class Returning(Member):
        def beat(self) -> None:
            super().beat()
            pulse.add(self)

    returning, leaving = Returning(), Member()
    for member in (returning, leaving):
        pulse.add(member)
    await eventually(lambda: returning.beats >= 3)
    pulse.discard(returning)
    assert leaving.beats == 1
