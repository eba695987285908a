"""The look of the few pages that people see, and the headers that keep others out of them."""

from __future__ import annotations

from html import escape
from typing import Final

from aiohttp import web

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_STYLE: Final = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}"
    "code{display:block;padding:.75rem;background:#8882;overflow-wrap:anywhere}"
    "input,button{font:inherit;padding:.4rem .8rem;margin:.25rem .5rem .25rem 0}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#eee}}"
)


def page(title: str, body: str, status: int = 200) -> web.Response:
    """`title` is text, `body` is HTML whose values were escaped."""
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    )
    return web.Response(status=status, text=text, content_type="text/html", headers=_HEADERS)
