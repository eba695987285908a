"""Supervised tasks and signals."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from warren_runtime.backoff import Backoff
from warren_runtime.tasks import Supervisor, run_until_signal


def no_wait() -> Backoff:
    return Backoff(1e-6, 1e-6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_service_after_its_clean_up(number: signal.Signals) -> None:
    cleaned = False

    async def main() -> None:
        nonlocal cleaned
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    await run_until_signal(main)
    assert cleaned


async def test_an_error_of_the_service_comes_out() -> None:
    async def main() -> None:
        raise ValueError("cannot start")

    with pytest.raises(ValueError, match="cannot start"):
        await run_until_signal(main)


async def test_failed_and_ended_tasks_start_again_and_leave_others_alone() -> None:
    failures: list[str] = []
    runs = 0
    enough, other_started = asyncio.Event(), 0

    async def unlucky() -> None:
        nonlocal runs
        runs += 1
        if runs == 5:
            enough.set()
            await asyncio.Event().wait()
        if runs % 2:
            raise RuntimeError("again")

    async def steady() -> None:
        nonlocal other_started
        other_started += 1
        await asyncio.Event().wait()

    supervisor = Supervisor(backoff=no_wait, on_failure=failures.append)
    supervisor.add("unlucky", unlucky)
    supervisor.add("steady", steady)
    with pytest.raises(ValueError):
        supervisor.add("steady", steady)
    running = asyncio.create_task(supervisor.run())
    await enough.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert failures == ["unlucky"] * 4
    assert other_started == 1
