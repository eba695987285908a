"""Which policy is in force: takes texts from people and files, refuses bad ones, keeps the last good one.

One text is taken at a time. It is read, bound and tested in a thread: for thousands of nodes that takes
seconds, in which streams must go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol, TypeVar

from warren_control.enforcement.enforcer import Enforcer
from warren_control.enforcement.network import domains_of
from warren_control.errors import ConflictError, InvalidError, PolicyRefusedError, StaleVersionError
from warren_control.metrics import ControlMetrics
from warren_control.model import Snapshot
from warren_control.policies.examination import Examination, examine
from warren_control.policies.questions import Questions, ReachDifference, shown_difference
from warren_control.policies.versions import (
    MAX_AUTHOR,
    MAX_COMMENT,
    MAX_VERSIONS,
    NO_VERSION,
    PolicyVersion,
    Source,
)
from warren_control.policy.differences import reach_changes
from warren_control.policy.document import Document
from warren_control.policy.load import load
from warren_control.policy.problems import PolicyError, Problem
from warren_control.store import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")
# In force when nothing that was ever accepted can be read any more: nobody is let in by mistake.
NOTHING_ALLOWED: Final = Document(())


class PolicyRecords(Protocol):
    """Where accepted policies are kept."""

    async def policies(self, limit: int, offset: int) -> Sequence[PolicyVersion]:
        """The newest first."""
        ...

    async def policy(self, version: int) -> PolicyVersion | None: ...


class PolicyKeeper:
    """The policy in force and its predecessors."""

    def __init__(
        self,
        store: Store,
        records: PolicyRecords,
        clock: Callable[[], datetime],
        metrics: ControlMetrics,
        domains: Sequence[str] = (),
        managed_by: str = "",
    ) -> None:
        """`managed_by`: the file that alone decides, if there is one."""
        self._store = store
        self._records = records
        self._clock = clock
        self._metrics = metrics
        self._domains = frozenset(domains)
        self._changing = asyncio.Lock()
        self.managed_by = managed_by
        self.current = NO_VERSION
        self._is_current = True
        """The newest accepted one is in force, not an older one that could still be read."""
        self.alarm = ""
        """Why what people wrote last is not what is in force."""

    @property
    def enforcer(self) -> Enforcer:
        return self._store.enforcer

    @property
    def has_policy(self) -> bool:
        return self.enforcer.index is not None

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return self.enforcer.document.warnings

    async def load(self) -> None:
        """At the start: the newest stored policy that can be read comes into force."""
        stored = await self._records.policies(MAX_VERSIONS, 0)
        if not stored:
            return
        self.current = stored[0]
        document = self._readable(stored)
        self._is_current = not self.alarm
        if document is not None:
            snapshot = self._store.snapshot
            live = await asyncio.to_thread(self.enforcer.compile, document, snapshot)
            self.enforcer.put(live, snapshot)
        self._told()

    def _readable(self, stored: Sequence[PolicyVersion]) -> Document | None:
        for version in stored:
            if version.source is Source.NONE:
                return None
            try:
                return load(version.text, version.domains | self.domains(self._store.snapshot))
            except PolicyError as error:
                self._alarm(f"version {version.version} cannot be read by this program: {error}")
        self._alarm("no stored policy can be read by this program: nothing is allowed until one is stored")
        return NOTHING_ALLOWED

    def domains(self, snapshot: Snapshot) -> frozenset[str]:
        """The domains that belong to the mesh: those of the configuration and of its users' addresses."""
        return domains_of(snapshot, self._domains)

    async def examine(self, text: str) -> Examination:
        """Whether a text would be accepted now. Changes nothing."""
        snapshot = self._store.snapshot
        return await asyncio.to_thread(examine, text, self.enforcer, snapshot, self.domains(snapshot))

    async def difference(self, text: str) -> ReachDifference:
        """Which connections a text would open and close; `PolicyRefusedError` if it cannot be read."""
        snapshot = self._store.snapshot
        domains = self.domains(snapshot)

        def compare() -> ReachDifference:
            try:
                document = load(text, domains)
            except PolicyError as error:
                raise PolicyRefusedError(Examination(None, error.problems, error.more)) from error
            network = self.enforcer.network(snapshot, document, attributes=True)
            return shown_difference(reach_changes(self.enforcer.document, document, network), snapshot)

        return await asyncio.to_thread(compare)

    async def ask(self, question: Callable[[Questions], T]) -> T:
        """A question about the policy in force, over the nodes there are now."""
        document, snapshot, text = self.enforcer.document, self._store.snapshot, self.current.text

        def answer() -> T:
            # Bound anew: the rules in force follow changes while a thread would read them.
            return question(Questions(self.enforcer.compile(document, snapshot).index, snapshot, text))

        return await asyncio.to_thread(answer)

    async def history(self, limit: int, offset: int) -> Sequence[PolicyVersion]:
        """Accepted policies, the newest first."""
        return await self._records.policies(limit, offset)

    async def former(self, version: int) -> PolicyVersion | None:
        return await self._records.policy(version)

    async def put(
        self,
        text: str,
        author: str,
        comment: str = "",
        expected: int | None = None,
        *,
        tested: bool = True,
    ) -> PolicyVersion:
        """A person's text comes into force, or an error says why not and nothing changes.

        `tested`: failing tests in it are such a reason, not only a warning.
        """
        self._check_unmanaged()
        return await self._put(text, Source.API, author, comment, expected, tested=tested)

    async def remove(self, author: str, expected: int | None = None) -> PolicyVersion:
        """No policy from now on."""
        self._check_unmanaged()
        async with self._changing:
            self._check_version(expected)
            if self.current.source is not Source.NONE:
                await self._store_and_enforce(self._next("", Source.NONE, author, ""), None)
        return self.current

    async def take_file(self, text: str, file: str, *, starting: bool = False) -> None:
        """The text of the file comes into force; a bad one is logged and the last good one stays.

        When the server starts, tests in it only warn: the nodes they name may not have joined yet.
        """
        try:
            await self._put(text, Source.FILE, file, "", None, tested=not starting)
        except PolicyRefusedError as error:
            self.refused(f"{file}: {error}")

    def refused(self, reason: str) -> None:
        """What decides the policy cannot be used; told once, however often it is looked at."""
        if self.alarm != reason:
            self._alarm(reason)

    async def _put(
        self,
        text: str,
        source: Source,
        author: str,
        comment: str,
        expected: int | None,
        *,
        tested: bool = True,
    ) -> PolicyVersion:
        for what, value, most in (("a comment", comment, MAX_COMMENT), ("an author", author, MAX_AUTHOR)):
            if len(value) > most or not value.replace("\n", "").isprintable():
                raise InvalidError(f"{what} has at most {most} printable characters")
        async with self._changing:
            self._check_version(expected)
            if (text, source) == (self.current.text, self.current.source) and self._is_current:
                self._settled()
                return self.current
            found = await self.examine(text)
            if found.live is None or (tested and not found.accepted):
                self._metrics.policy_refusals.inc()
                raise PolicyRefusedError(found)
            if not found.accepted:
                logger.warning("tests in the policy fail", extra={"reason": "; ".join(found.reasons[:5])})
            await self._store_and_enforce(self._next(text, source, author, comment), found)
        return self.current

    async def _store_and_enforce(self, version: PolicyVersion, found: Examination | None) -> None:
        live = None if found is None else found.live
        async with self._store.writing() as writer:
            await writer.put_policy(version, live)
        self.current, self._is_current = version, True
        self._settled()
        about = {"version": version.version, "source": version.source.value, "who": version.author}
        logger.info("policy in force", extra=about)

    def _next(self, text: str, source: Source, author: str, comment: str) -> PolicyVersion:
        domains = self.domains(self._store.snapshot) if text else frozenset()
        return PolicyVersion(self.current.version + 1, text, source, author, self._clock(), comment, domains)

    def _check_unmanaged(self) -> None:
        if self.managed_by:
            raise ConflictError(f"the policy comes from {self.managed_by}: change it there")

    def _check_version(self, expected: int | None) -> None:
        if expected is not None and expected != self.current.version:
            raise StaleVersionError(self.current.version)

    def _alarm(self, text: str) -> None:
        self.alarm = text
        logger.error("The policy is not the one that was written last", extra={"reason": text})
        self._told()

    def _settled(self) -> None:
        self.alarm = ""
        self._told()

    def _told(self) -> None:
        self._metrics.policy_version.set(self.current.version)
        self._metrics.policy_failing.set(1 if self.alarm else 0)
