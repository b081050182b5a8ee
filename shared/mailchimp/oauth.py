"""Signing in to Mailchimp with OAuth 2: where to send the administrator, and what to do with the code that comes back.

Mailchimp Marketing API, "Access Data on Behalf of Other Users with OAuth 2": /oauth2/authorize, /oauth2/token and
/oauth2/metadata of https://login.mailchimp.com. Tokens do not expire; the user may revoke them. There are no scopes.
The redirect address must be exactly the registered one, so what belongs to the request travels in `state`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from shared.mailchimp.api_root import require_address, require_token, validate_api_root
from shared.mailchimp.errors import (
    ApiKeyMalformed,
    MailchimpError,
    Problem,
    ReplyUnusable,
    SignInNotConfigured,
    SignInRefused,
    Unavailable,
)
from shared.mailchimp.problems import Call, error_for, read_problem, text
from shared.mailchimp.replies import read_object
from shared.mailchimp.transport import Reply, Transport

# RFC 6749 5.2: the app's own registration is wrong, whoever signs in.
_OUR_FAULTS = {"invalid_client", "unauthorized_client", "unsupported_grant_type", "redirect_uri_mismatch"}
_OUTAGES = {"server_error", "temporarily_unavailable"}
_CONNECT_TIMEOUT_S = 5.0
_SECRET_LENGTH = 8  # what is shorter is no secret, and taking it out would only garble the answer


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who signed in, from the metadata. api_root is checked. login_id: the user whose ten connections are shared."""

    api_root: str
    data_centre: str
    account_name: str
    role: str
    login_id: str


@dataclass(frozen=True, slots=True)
class OAuthApp:
    """This app as registered with Mailchimp. login_url: where the settings say that one signs in."""

    login_url: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str


def authorize_url(app: OAuthApp, state: str) -> str:
    """Where to send the administrator's browser. state: unguessable, bound to the caller, comes back unchanged."""
    query = {"response_type": "code", "client_id": app.client_id, "redirect_uri": app.redirect_uri, "state": state}
    return f"{require_address(app.login_url)}/oauth2/authorize?{urlencode(query)}"


def exchange_code(
    app: OAuthApp, code: str, transport: Transport, utc_now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> str:
    """The access token for the code of the redirect; a code works once and for a short time.

    transport: to `app.login_url`. Raises SignInRefused (code used, expired or made up), SignInNotConfigured,
    Unavailable.
    """
    form = {
        "grant_type": "authorization_code",
        "client_id": app.client_id,
        "client_secret": app.client_secret,
        "redirect_uri": app.redirect_uri,
        "code": code,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    call = Call("completing the sign-in")
    body = urlencode(form, errors="replace").encode("ascii")
    reply = transport.send("POST", "/oauth2/token", doing=call.doing, headers=headers, body=body)
    wire = _read(reply, call, utc_now, (app.client_secret, code))
    token = wire.get("access_token")
    if isinstance(token, str) and token:
        try:
            return require_token(token)
        except ApiKeyMalformed:
            pass
    raise ReplyUnusable(
        "Mailchimp's answer while completing the sign-in holds no usable access token.", status=reply.status
    )


def sign_in_of(
    token: str,
    transport: Transport,
    *,
    api_root_override: str | None = None,
    utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SignIn:
    """Who the token belongs to and which API root serves it (GET /oauth2/metadata).

    transport: to the login address. api_root_override: the configured API root, used instead of the metadata's.
    Raises SignInRefused (also for the error that Mailchimp puts into a 200), ApiRootRefused, ApiKeyMalformed,
    Unavailable.
    """
    usable = require_token(token)
    call = Call("reading who signed in")
    headers = {"Authorization": f"OAuth {usable}", "Accept": "application/json"}
    reply = transport.send("GET", "/oauth2/metadata", doing=call.doing, headers=headers)
    wire = _read(reply, call, utc_now, (usable,))
    data_centre, endpoint = text(wire.get("dc"), 20), text(wire.get("api_endpoint"), 200)
    login = wire.get("login")
    login_id = (login.get("login_id") if isinstance(login, dict) else None) or wire.get("user_id")
    if not data_centre or not endpoint or not isinstance(login_id, int | str):
        raise ReplyUnusable("Mailchimp's answer while reading who signed in is incomplete.", status=reply.status)
    if api_root_override:
        endpoint = api_root_override.replace("{dc}", data_centre)
    return SignIn(
        api_root=validate_api_root(endpoint, api_root_override),
        data_centre=data_centre,
        account_name=text(wire.get("accountname"), 200),
        role=text(wire.get("role"), 80),
        login_id=text(str(login_id), 80),
    )


def error_of_redirect(oauth_error: str) -> MailchimpError | None:
    """What the `error` of a redirect back to this app means (RFC 6749 4.1.2.1), where it is not the person's doing.

    None for errors that say nothing of that kind, also for `access_denied`.
    """
    if oauth_error in _OUR_FAULTS:
        return _refused(Problem(oauth_error=oauth_error), 400)
    if oauth_error in _OUTAGES:
        return Unavailable(
            "Mailchimp's sign-in is not available at the moment.", reason="serverError", outcome_unknown=False
        )
    return None


class OAuthProvider:
    """Mailchimp's sign-in for this app: the three addresses above as methods, each call over a connection of its own.

    The time limits are short, because a browser waits for the answer. api_root_override: as in `sign_in_of`.
    """

    def __init__(
        self,
        app: OAuthApp,
        api_root_override: str | None = None,
        *,
        read_timeout_s: float = 20,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app = app
        self._api_root_override = api_root_override
        self._read_timeout_s = read_timeout_s
        self._utc_now = utc_now

    def authorize_url(self, state: str) -> str:
        """See `authorize_url`."""
        return authorize_url(self._app, state)

    def token(self, code: str) -> str:
        """See `exchange_code`."""
        with closing(self._transport()) as transport:
            return exchange_code(self._app, code, transport, self._utc_now)

    def sign_in(self, token: str) -> SignIn:
        """See `sign_in_of`."""
        with closing(self._transport()) as transport:
            return sign_in_of(token, transport, api_root_override=self._api_root_override, utc_now=self._utc_now)

    def _transport(self) -> Transport:
        return Transport(self._app.login_url, connect_timeout_s=_CONNECT_TIMEOUT_S, read_timeout_s=self._read_timeout_s)


def _read(reply: Reply, call: Call, utc_now: Callable[[], datetime], secrets: tuple[str, ...]) -> dict[str, Any]:
    """The JSON object of a sign-in reply; its `error` counts whatever the status says."""
    body = reply.body
    if not 200 <= reply.status < 300:
        for secret in secrets:
            if len(secret) >= _SECRET_LENGTH:
                body = body.replace(secret.encode(errors="replace"), b"<secret>")
    problem = read_problem(body)
    if problem and problem.oauth_error and reply.status < 500 and reply.status != 429:
        raise _refused(problem, reply.status)
    if not 200 <= reply.status < 300:
        raise error_for(Reply(reply.status, reply.retry_after, body), call, utc_now)
    return read_object(body, call.doing)


def _refused(problem: Problem, status: int) -> MailchimpError:
    said = Problem(title=problem.oauth_error, detail=problem.detail)
    if problem.oauth_error in _OUR_FAULTS:
        return SignInNotConfigured(
            "Mailchimp does not know this app.",
            action=(
                "Ask your administrator to check MAILCHIMP_CLIENT_ID, MAILCHIMP_CLIENT_SECRET and the redirect address."
            ),
            status=status,
            problem=said,
        )
    return SignInRefused(
        "Mailchimp did not complete the sign-in.",
        action="Start the sign-in to Mailchimp again, and complete it within ten minutes.",
        status=status,
        problem=said,
    )
