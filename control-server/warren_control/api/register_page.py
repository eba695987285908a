"""`/register/<id>`: what a person sees who opens the link that `tailscale up` printed.

It only says how an administrator lets the machine in; a page that could do it itself would let anyone do
it who sees the link. A login at an identity provider will start here.
"""

from __future__ import annotations

from html import escape

from aiohttp import web

from warren_control.api.pages import page
from warren_control.pending import Pending, PendingLogins


class RegisterPage:
    """Serves the page."""

    def __init__(self, pending: PendingLogins, base_domain: str) -> None:
        self._pending = pending
        self._base_domain = base_domain

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/register/{id}", self.page)]

    async def page(self, request: web.Request) -> web.Response:
        pending = self._pending.find(request.match_info["id"])
        if pending is None:
            return page(
                "Nothing waits here",
                "<p>The machine is in already, or this link has expired: then run the command on the machine"
                " again and open the link that it prints.</p>",
                404,
            )
        return page(f"Let a machine into {self._base_domain}?", _waiting(pending))


def _waiting(pending: Pending) -> str:
    host = escape(pending.hostinfo.hostname or "a machine without a name")
    system = escape(pending.hostinfo.os or "an unknown system")
    return (
        f"<p><strong>{host}</strong> ({system}, from {escape(pending.source)}) asks to join."
        " An administrator lets it in with</p>"
        f"<code>warren nodes approve {escape(pending.id)} --user NAME</code>"
        f"<p>until {pending.expires:%H:%M} UTC. The machine goes on by itself then.</p>"
    )
