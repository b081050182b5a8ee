"""Mailchimp's sign-in pages: `/oauth2/authorize`, `/oauth2/token` and `/oauth2/metadata`.

As with Mailchimp, the redirect address must match a registered one exactly, codes work once, tokens do not expire.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from urllib.parse import urlencode

from dev.sandbox.http import Reply, Request, form_fields, json_reply
from dev.sandbox.store import Account, World

CODE_SECONDS = 600
DEFAULT_REDIRECT_URI = "http://127.0.0.1:7071/api/oauth/callback"


@dataclass(slots=True)
class OAuthClient:
    """The one registered application."""

    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"
    redirect_uris: tuple[str, ...] = (DEFAULT_REDIRECT_URI,)


@dataclass(frozen=True, slots=True)
class _Code:
    account: Account
    redirect_uri: str
    expires: float


class _PageError(Exception):
    """The sign-in page cannot be shown; the text is for the person in front of it."""


@dataclass(slots=True)
class OAuth:
    """Answers the sign-in addresses. `new_secret` makes codes and tokens, `clock` gives seconds since 1970."""

    world: World
    client: OAuthClient
    clock: Callable[[], float]
    new_secret: Callable[[], str]
    address: str = ""
    _codes: dict[str, _Code] = field(default_factory=dict)

    def answer(self, request: Request) -> Reply:
        """Route a call below `/oauth2/`."""
        routes = {
            ("GET", "/oauth2/authorize"): self.show_page,
            ("POST", "/oauth2/authorize"): self.decide,
            ("POST", "/oauth2/token"): self.token,
            ("GET", "/oauth2/metadata"): self.metadata,
        }
        handler = routes.get((request.method, request.path))
        if handler is None:
            return _page("Not found", "There is no such page.", 404)
        try:
            return handler(request)
        except _PageError as error:
            return _page("Sign-in is not possible", escape(str(error)), 400)

    def show_page(self, request: Request) -> Reply:
        """The page on which a person chooses an account and allows or denies the access."""
        query = request.query
        self._check(query)
        choices = "".join(
            f'<p><label><input type="radio" name="account" value="{escape(account.id)}"{" checked" if not n else ""}> '
            f"{escape(account.name)}</label></p>"
            for n, account in enumerate(self.world.accounts.values())
        )
        kept = "".join(
            f'<input type="hidden" name="{name}" value="{escape(query.get(name, ""))}">'
            for name in ("response_type", "client_id", "redirect_uri", "state")
        )
        return _page(
            "Log in to Mailchimp (sandbox)",
            f"<p><b>{escape(self.client.client_id)}</b> asks for access to a Mailchimp account.</p>"
            f'<form method="post" action="/oauth2/authorize">{kept}{choices}'
            '<button name="decision" value="allow">Allow</button> '
            '<button name="decision" value="deny">Deny</button></form>',
        )

    def decide(self, request: Request) -> Reply:
        """The form of that page: redirects with `code` and `state`, or with `error=access_denied`."""
        form = form_fields(request)
        self._check(form)
        answer = {"state": form["state"]} if form.get("state") else {}
        if form.get("decision") != "allow":
            answer["error"] = "access_denied"
        else:
            account = self.world.accounts.get(form.get("account", "")) or next(iter(self.world.accounts.values()))
            code = self.new_secret()
            self._codes[code] = _Code(account, form["redirect_uri"], self.clock() + CODE_SECONDS)
            answer["code"] = code
        joint = "&" if "?" in form["redirect_uri"] else "?"
        location = f"{form['redirect_uri']}{joint}{urlencode(answer)}"
        return Reply(302, content_type="", headers=(("Location", location),))

    def _check(self, fields: dict[str, str]) -> None:
        if fields.get("response_type") != "code":
            raise _PageError("response_type must be code.")
        if fields.get("client_id") != self.client.client_id:
            raise _PageError("No application has this client_id.")
        if fields.get("redirect_uri") not in self.client.redirect_uris:
            raise _PageError("The redirect_uri does not match the registered one exactly.")

    def token(self, request: Request) -> Reply:
        """Exchange a code for a token."""
        form = form_fields(request)
        if (form.get("client_id"), form.get("client_secret")) != (self.client.client_id, self.client.client_secret):
            return _oauth_error("invalid_client", "The client credentials are invalid.")
        if form.get("grant_type") != "authorization_code":
            return _oauth_error("unsupported_grant_type", "grant_type must be authorization_code.")
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or code.expires < self.clock() or code.redirect_uri != form.get("redirect_uri"):
            return _oauth_error("invalid_grant", "Invalid code, expired code, or redirect_uri of another request.")
        token = self.new_secret()
        code.account.tokens.add(token)
        return json_reply({"access_token": token, "expires_in": 0, "scope": None})

    def metadata(self, request: Request) -> Reply:
        """Whose token this is and where the API is. A wrong token is told in the body of a 200, as users report."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        account = self.world.account_of(token.strip())
        if scheme.lower() not in ("oauth", "bearer") or account is None or token.strip() not in account.tokens:
            return json_reply({"error": "invalid_token", "error_description": "The access token is invalid."})
        email = f"owner-{account.id}@sandbox.example"
        return json_reply(
            {
                "dc": self.world.datacenter,
                "role": "owner",
                "accountname": account.name,
                "user_id": account.user_id,
                "login": {
                    "email": email,
                    "avatar": None,
                    "login_id": account.user_id,
                    "login_name": email,
                    "login_email": email,
                },
                "login_url": self.address,
                "api_endpoint": self.address,
            }
        )


def _oauth_error(error: str, description: str) -> Reply:
    return json_reply({"error": error, "error_description": description}, 400)


def _page(title: str, content: str, status: int = 200) -> Reply:
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:16px system-ui;max-width:34rem;margin:3rem auto;padding:0 1rem}button{font:inherit;"
        f"padding:.4rem 1.2rem}}</style><h1>{title}</h1>{content}</html>"
    )
    return Reply(status, text.encode(), "text/html; charset=utf-8")
