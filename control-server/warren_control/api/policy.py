"""`/api/v1/policy`: what may talk to what, its history, and questions about it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from aiohttp import web

from warren_control.api import audit, lists
from warren_control.api.access import Need, operation
from warren_control.api.policy_documents import (
    Checked,
    Current,
    Examined,
    Former,
    History,
    Listed,
    Reachers,
    examined,
    listed,
    shown,
)
from warren_control.api.problems import ACTOR, body_of, json_response, problem
from warren_control.errors import InvalidError, NotFoundError, PolicyRefusedError, StaleVersionError
from warren_control.policies.keeper import PolicyKeeper
from warren_control.policies.questions import Explanation, ReachDifference
from warren_control.policies.versions import MAX_VERSIONS, PolicyVersion

T = TypeVar("T", bound=msgspec.Struct)
PAGE: Final = ("limit", "offset")
# What is too long for the language is refused in its own words; JSON may write a byte as six.
MAX_BODY_BYTES: Final = 24 * 1024 * 1024


class NewPolicy(msgspec.Struct, forbid_unknown_fields=True):
    """Body of PUT."""

    text: str
    comment: str = ""
    author: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """On whose behalf, if not the token's own."""
    tests: Literal["refuse", "warn"] = "refuse"
    """What a failing test in the text does."""


class PolicyText(msgspec.Struct, forbid_unknown_fields=True):
    """A policy to look at."""

    text: str


class Flow(msgspec.Struct, forbid_unknown_fields=True):
    """From where to which port."""

    source: str
    destination: str
    port: int
    protocol: str = "tcp"


class WhoCan(msgspec.Struct, forbid_unknown_fields=True):
    """One of source and destination: the other one is asked for."""

    port: int
    source: str = ""
    destination: str = ""
    protocol: str = "tcp"


class PolicyApi:
    """Shows, changes, checks and explains the policy."""

    def __init__(self, keeper: PolicyKeeper) -> None:
        self._keeper = keeper

    def routes(self) -> list[web.RouteDef]:
        base = "/api/v1/policy"
        return [
            web.get(base, self.get),
            web.put(base, self.put),
            web.delete(base, self.delete),
            web.post(f"{base}/check", self.check),
            web.post(f"{base}/diff", self.diff),
            web.post(f"{base}/explain", self.explain),
            web.post(f"{base}/who-can", self.who_can),
            web.get(f"{base}/history", self.history),
            web.get(f"{base}/history/{{version}}", self.former),
        ]

    @operation(Need.READ, Current)
    async def get(self, request: web.Request) -> web.Response:
        """Show the policy in force; version 0 is none, under which everything may talk to everything."""
        return self._answer()

    @operation(Need.WRITE, Current, body=NewPolicy, problems=(409, 412))
    async def put(self, request: web.Request) -> web.Response:
        """Put a policy in force; with `If-Match` only in place of that version."""
        wish = await _body(request, NewPolicy)
        before = self._keeper.current
        try:
            author = wish.author or _author()
            tested = wish.tests == "refuse"
            await self._keeper.put(wish.text, author, wish.comment, _expected(request), tested=tested)
        except PolicyRefusedError as error:
            return problem(422, str(error), **msgspec.structs.asdict(Examined(*examined(error.found))))
        except StaleVersionError as error:
            return problem(412, str(error), version=error.current)
        self._audit(request, before)
        return self._answer()

    @operation(Need.WRITE, Current, problems=(409, 412))
    async def delete(self, request: web.Request) -> web.Response:
        """Have no policy: everything may talk to everything."""
        before = self._keeper.current
        try:
            await self._keeper.remove(_author(), _expected(request))
        except StaleVersionError as error:
            return problem(412, str(error), version=error.current)
        self._audit(request, before)
        return self._answer()

    @operation(Need.READ, Checked, body=PolicyText)
    async def check(self, request: web.Request) -> web.Response:
        """Say whether a policy would be accepted; changes nothing."""
        found = await self._keeper.examine((await _body(request, PolicyText)).text)
        return json_response(Checked(*examined(found), ok=found.accepted))

    @operation(Need.READ, ReachDifference, body=PolicyText)
    async def diff(self, request: web.Request) -> web.Response:
        """Say which connections a policy would open and close."""
        text = (await _body(request, PolicyText)).text
        try:
            return json_response(await self._keeper.difference(text))
        except PolicyRefusedError as error:
            return problem(422, str(error), **msgspec.structs.asdict(Examined(*examined(error.found))))

    @operation(Need.READ, Explanation, body=Flow, problems=(404,))
    async def explain(self, request: web.Request) -> web.Response:
        """Say whether a source reaches a port, and by which rules."""
        flow = await body_of(request, Flow)
        return json_response(
            await self._keeper.ask(
                lambda about: about.explain(flow.source, flow.destination, flow.port, flow.protocol)
            )
        )

    @operation(Need.READ, Reachers, body=WhoCan, problems=(404,))
    async def who_can(self, request: web.Request) -> web.Response:
        """List the nodes that reach a port of a destination, or that a source reaches at a port."""
        wish = await body_of(request, WhoCan)
        if bool(wish.source) == bool(wish.destination):
            raise InvalidError("one of source and destination is needed, and only one")
        if wish.destination:
            to = wish.destination
            sources = await self._keeper.ask(lambda about: about.sources_of(to, wish.port, wish.protocol))
            return json_response(Reachers(sources=tuple(sources)))
        destinations = await self._keeper.ask(
            lambda about: about.destinations_of(wish.source, wish.port, wish.protocol)
        )
        return json_response(Reachers(destinations=tuple(destinations)))

    @operation(Need.READ, History, query=PAGE)
    async def history(self, request: web.Request) -> web.Response:
        """List accepted policies, the newest first."""
        lists.known(request, PAGE)
        limit = lists.number(request, "limit", MAX_VERSIONS, low=1, high=lists.MAX_LIMIT)
        offset = lists.number(request, "offset", 0, low=0, high=2**53)
        found = await self._keeper.history(limit, offset)
        return json_response(History(tuple(Listed(*listed(version)) for version in found)))

    @operation(Need.READ, Former)
    async def former(self, request: web.Request) -> web.Response:
        """Show an accepted policy with its text."""
        text = request.match_info["version"]
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 17 else 0
        found = await self._keeper.former(number)
        if found is None:
            raise NotFoundError(f"there is no version {text[:32]} any more")
        return json_response(Former(*listed(found), text=found.text))

    def _answer(self) -> web.Response:
        current = self._keeper.current
        document = Current(
            version=current.version,
            text=current.text,
            source=current.source,
            author=current.author,
            created=current.created,
            comment=current.comment,
            warnings=tuple(shown(one) for one in self._keeper.warnings),
            alarm=self._keeper.alarm,
            managed_by=self._keeper.managed_by,
        )
        response = json_response(document)
        response.headers["ETag"] = f'"{current.version}"'
        return response

    def _audit(self, request: web.Request, before: PolicyVersion) -> None:
        audit.changed(request, "policy", _logged(before), _logged(self._keeper.current))


async def _body(request: web.Request, kind: type[T]) -> T:
    """Policies may be longer than other bodies; who sends one has shown a token."""
    return await body_of(request.clone(client_max_size=MAX_BODY_BYTES), kind)


def _author() -> str:
    actor = ACTOR.get()
    return "" if actor is None else actor.name


def _expected(request: web.Request) -> int | None:
    """The version that `If-Match` names."""
    header = request.headers.get("If-Match", "*").strip()
    if header == "*":
        return None
    text = header.removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise InvalidError('If-Match must be a version such as "7", or *')
    return int(text)


def _logged(version: PolicyVersion) -> dict[str, Any]:
    """The text itself may be megabytes; its hash is what the operator shows too."""
    digest = hashlib.sha256(version.text.encode()).hexdigest() if version.text else ""
    return {"version": version.version, "source": version.source.value, "sha256": digest}
