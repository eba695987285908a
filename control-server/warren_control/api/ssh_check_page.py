"""`/ssh/check/<id>`: what a person sees who opens the link that a held SSH connection printed.

The link alone approves nothing: whoever sits at the machine that connects sees it too. The page takes a token
of the admin API, and a request without one does nothing, so that no other site can make a browser decide.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from html import escape

import msgspec
from aiohttp import web

from warren_control.api.access import Access, Need
from warren_control.api.pages import page
from warren_control.api.problems import ACTOR
from warren_control.api.ssh_checks import decide, shown, undecided
from warren_control.limits import FailureLimit
from warren_control.ssh_checks import SshCheck, SshChecks
from warren_control.store import Store

_GONE = (
    "<p>The connection was decided already, or waited too long: then connect again and open the link that"
    " appears.</p>"
)


class SshCheckPage:
    """Serves the page and takes its decision."""

    def __init__(
        self,
        store: Store,
        checks: SshChecks,
        access: Access,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._checks = checks
        self._access = access
        self._clock = clock
        self._limit = FailureLimit()

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/ssh/check/{id}", self.show), web.post("/ssh/check/{id}", self.decide)]

    async def show(self, request: web.Request) -> web.Response:
        check = undecided(self._checks, request.match_info["id"])
        if check is None:
            return page("Nothing waits here", _GONE, 404)
        return self._question(check)

    async def decide(self, request: web.Request) -> web.Response:
        check = undecided(self._checks, request.match_info["id"])
        if check is None:
            return page("Nothing waits here", _GONE, 404)
        source = request.remote or "local"
        now = self._clock().timestamp()
        if self._limit.exhausted(source, now):
            return self._question(check, "Too many wrong tokens from this address: wait a minute.", 429)
        form = await request.post()
        actor = self._access.actor(f"Bearer {form.get('token', '')}")
        if actor is None or not actor.may(Need.WRITE):
            self._limit.failed(source, now)
            return self._question(check, "That is no token of an administrator.", 403)
        verdict = form.get("verdict")
        if verdict not in ("approve", "deny"):
            return self._question(check, "Choose one of the two.", 400)
        ACTOR.set(actor)
        approved = verdict == "approve"
        decide(request, self._checks, check, self._store.snapshot, approved=approved)
        text = "The connection goes on by itself." if approved else "The connection was refused."
        return page("Approved" if approved else "Denied", f"<p>{text}</p>")

    def _question(self, check: SshCheck, problem: str = "", status: int = 200) -> web.Response:
        asked = {
            name: escape(str(value))
            for name, value in msgspec.to_builtins(shown(check, self._store.snapshot)).items()
        }
        warning = f"<p><strong>{escape(problem)}</strong></p>" if problem else ""
        body = (
            f"{warning}<p><strong>{asked['user']}</strong> wants to log in from"
            f" <strong>{asked['source']}</strong> to <strong>{asked['destination']}</strong> as"
            f" <strong>{asked['login']}</strong>. The connection is held until"
            f" {check.expires:%H:%M} UTC.</p>"
            '<form method="post"><p><label>Token of an administrator<br>'
            '<input name="token" type="password" autocomplete="off" required></label></p>'
            '<p><button name="verdict" value="approve">Approve</button>'
            '<button name="verdict" value="deny">Deny</button></p></form>'
            "<p>Or with the command line:</p>"
            f"<code>warren ssh approve {asked['id']}</code>"
        )
        return page(f"Let {check.login.user} in over SSH?", body, status)
