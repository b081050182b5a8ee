"""The plain pages that a person sees who comes back from Mailchimp: one sentence, no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import quote

from starlette.responses import HTMLResponse
from starlette.types import Scope

from shared.destinations.authorization import CALLBACK_PATH

_STYLE: Final = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:4rem auto;padding:0 1rem;color:#1b1b1b;"
    "background:#fff}h1{font-size:1.4rem}a{color:#0b5cad}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#1b1b1b}a{color:#8ec5ff}}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LONGEST_QUERY: Final = 4096
"""Bytes; what is longer is nothing that Mailchimp sends, and the page says so after the sign-in."""


def page(
    title: str,
    sentence: str,
    status: int = 200,
    *,
    link: tuple[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """A page of a title and a sentence; ``link`` is an address of our own and its text. Everything is escaped."""
    anchor = f'<p><a href="{escape(link[0])}">{escape(link[1])}</a></p>' if link else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1><p>{escape(sentence)}</p>{anchor}</main></body></html>"
    )
    return HTMLResponse(text, status, {**(headers or {}), "Content-Security-Policy": _POLICY})


def sign_in_first(scope: Scope) -> HTMLResponse:
    """For a browser that comes back from Mailchimp and is not signed in to this app (any more): a way to sign in that
    leads back here. The way back is an address of our own, whatever the request says.

    App Service authentication, "Customize sign-in and sign-out": ``post_login_redirect_uri`` takes a relative address.
    """
    query = bytes(scope["query_string"])
    back = CALLBACK_PATH
    if query and len(query) <= _LONGEST_QUERY:
        back += f"?{query.decode('latin-1')}"
    return page(
        "Sign in to continue",
        "You are not signed in to this app. Sign in as the person who started the sign-in to Mailchimp, and it goes on "
        "from there.",
        401,
        link=(f"/.auth/login/aad?post_login_redirect_uri={quote(back, safe='', encoding='latin-1')}", "Sign in"),
        headers={"WWW-Authenticate": "Bearer"},
    )
