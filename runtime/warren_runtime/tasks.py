"""Running a service: event loop, signals, and supervised named tasks.

The only place that catches every exception.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from .backoff import Backoff

logger = logging.getLogger(__name__)

_HEALTHY_SECONDS: Final = 60.0
"""A task that ran this long before it failed starts again with the shortest delay."""

FailureHook = Callable[[str], None]


def run_service(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` on uvloop. SIGTERM and SIGINT cancel it; after its clean-up this returns normally."""
    _allow_many_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_until_signal(main))


def _allow_many_files() -> None:
    """The usual 1,024 open files are for programs that use select(); ours have a socket for each client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run_until_signal(main: Callable[[], Awaitable[None]]) -> None:
    """Await `main`; the first SIGTERM or SIGINT cancels it, and the cancellation ends here."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(_as_coroutine(main))
    stopped_by: list[str] = []

    def stop(number: signal.Signals) -> None:
        if not stopped_by:
            logger.info("stopping", extra={"signal": number.name})
            task.cancel()
        stopped_by.append(number.name)

    handled = (signal.SIGTERM, signal.SIGINT)
    for number in handled:
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped_by:
            raise
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
        if not task.done():
            task.cancel()


async def _as_coroutine(main: Callable[[], Awaitable[None]]) -> None:
    await main()


class Supervisor:
    """Keeps named tasks running: one that fails or returns is logged and started again after a back-off."""

    def __init__(
        self, *, backoff: Callable[[], Backoff] = Backoff, on_failure: FailureHook | None = None
    ) -> None:
        self._backoff = backoff
        self._on_failure = on_failure
        self._tasks: dict[str, Callable[[], Awaitable[None]]] = {}

    def add(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Register a task before `run`; the name shows in logs and in the task list."""
        if name in self._tasks:
            raise ValueError(f"two tasks named {name}")
        self._tasks[name] = run

    async def run(self) -> None:
        """Run all registered tasks until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, run in self._tasks.items():
                group.create_task(
                    supervise(name, run, backoff=self._backoff(), on_failure=self._on_failure), name=name
                )


async def supervise(
    name: str,
    run: Callable[[], Awaitable[None]],
    *,
    backoff: Backoff | None = None,
    on_failure: FailureHook | None = None,
) -> None:
    """Await `run` again and again until cancelled; only cancellation leaves here."""
    pause = backoff or Backoff()
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await run()
        except Exception:
            logger.exception("task failed and will be started again", extra={"task": name})
        else:
            logger.warning("task ended and will be started again", extra={"task": name})
        if on_failure is not None:
            on_failure(name)
        if loop.time() - started >= _HEALTHY_SECONDS:
            pause.reset()
        await asyncio.sleep(pause.next_delay_seconds())
