"""Keeps a certificate fresh: orders in time, waits longer after each failure, never gives up."""

from __future__ import annotations

import asyncio
import enum
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .challenges import ChallengeFolder
from .errors import AcmeError
from .schedule import Attempts, due, failed
from .settings import AcmeSettings
from .storage import AcmeFolder, mark_of

logger = logging.getLogger(__name__)

Issue = Callable[[AcmeSettings, AcmeFolder, ChallengeFolder], bytes]
_LONGEST_SLEEP_SECONDS: Final = 3600.0
"""The clock may be set while we sleep."""


class OrderResult(enum.Enum):
    """How an order ended."""

    ISSUED = "issued"
    FAILED = "failed"
    LIMITED = "limited"


def order(settings: AcmeSettings, folder: AcmeFolder, challenges: ChallengeFolder) -> bytes:
    """The real one; its packages are loaded here and nowhere else."""
    from .issue import issue

    return issue(settings, folder, challenges)


class CertificateKeeper:
    """`on_new` is called when another certificate lies in the folder."""

    def __init__(
        self,
        settings: AcmeSettings,
        folder: AcmeFolder,
        challenges: ChallengeFolder,
        on_new: Callable[[], object],
        *,
        issue: Issue = order,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._challenges = challenges
        self._on_new = on_new
        self._issue = issue
        self._clock = clock
        self._mark = mark_of(settings)
        self._attempts = folder.attempts()
        self._problem = ""
        self.results: Counter[OrderResult] = Counter()

    def notes(self) -> list[str]:
        """What a person should know; nothing if all is well."""
        held = self._folder.held()
        notes = [f"no certificate: {self._problem}"] if self._problem else []
        if held.is_placeholder:
            notes.append("clients get a placeholder until the first certificate is issued")
        elif held.not_after <= self._clock():
            notes.append(f"the certificate expired at {held.not_after.isoformat()}")
        return notes

    async def run(self) -> None:
        """For ever."""
        self._challenges.clear()
        while True:
            held = await asyncio.to_thread(self._folder.held)
            when = due(held, self._settings.names, self._attempts, self._mark)
            wait = (when - self._clock()).total_seconds()
            if wait > 0:
                await asyncio.sleep(min(wait, _LONGEST_SLEEP_SECONDS))
            else:
                await self._try()

    async def _try(self) -> None:
        logger.info("ordering a certificate", extra={"names": list(self._settings.names)})
        try:
            pem = await _in_thread(lambda: self._issue(self._settings, self._folder, self._challenges))
            await asyncio.to_thread(self._folder.store, pem)
            await asyncio.to_thread(self._on_new)
        except AcmeError as error:
            self._failed(str(error), limited=error.limited)
        except Exception as error:
            logger.exception("order of a certificate broke off")
            self._failed(f"{type(error).__name__}: {error}", limited=False)
        else:
            self._attempts, self._problem = Attempts(), ""
            self.results[OrderResult.ISSUED] += 1
            held = self._folder.held()
            logger.info("certificate issued", extra={"until": held.not_after.isoformat()})
        await asyncio.to_thread(self._folder.note, self._attempts)

    def _failed(self, reason: str, *, limited: bool) -> None:
        self._attempts = failed(
            self._attempts,
            self._clock(),
            self._mark,
            limited=limited,
            random=random.random(),  # noqa: S311 - jitter
        )
        self._problem = reason
        self.results[OrderResult.LIMITED if limited else OrderResult.FAILED] += 1
        way = "port 80" if self._settings.http_listen else "port 443"
        logger.warning(
            "no certificate was issued; the one in use stays",
            extra={
                "reason": reason,
                "next": self._attempts.not_before.isoformat(),
                "help": f"the names must lead to this service, and the CA must reach its {way}",
            },
        )

    @property
    def is_failing(self) -> bool:
        return bool(self._problem)

    def expires_at(self) -> float:
        """Unix time."""
        return self._folder.held().not_after.timestamp()


class AcmeCollector(Collector):
    """Metrics named `PREFIX_acme_...`."""

    def __init__(self, prefix: str, keeper: CertificateKeeper) -> None:
        self._prefix = f"{prefix}_acme"
        self._keeper = keeper

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(f"{self._prefix}_orders", "Orders of certificates.", labels=["result"])
        for result in OrderResult:
            family.add_metric([result.value], self._keeper.results[result])
        yield family
        text = "1 after a failed order, until one succeeds."
        yield GaugeMetricFamily(f"{self._prefix}_failing", text, int(self._keeper.is_failing))
        name, text = (
            f"{self._prefix}_certificate_expiry_timestamp_seconds",
            "When the certificate in use expires.",
        )
        yield GaugeMetricFamily(name, text, self._keeper.expires_at())


async def _in_thread(call: Callable[[], bytes]) -> bytes:
    """In a thread that a stopping process does not wait for: the CA may take its time."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def finish(result: bytes | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result or b"")

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as caught:  # handed over whole
            error = caught
        try:
            loop.call_soon_threadsafe(finish, result, error)
        except RuntimeError:
            # The loop is gone, and nobody waits.
            pass

    threading.Thread(target=run, name="certificate order", daemon=True).start()
    return await done
