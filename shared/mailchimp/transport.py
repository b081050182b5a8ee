"""One HTTP exchange with Mailchimp: sends a request once, reads the answer within limits, says what a failure means.

The request goes straight to the session's adapter instead of through `Session.request`. That leaves out what must not
happen here: a redirect that takes the token elsewhere (and whose body is read without limit), a .netrc entry that
replaces the Authorization header, cookies, retries. Proxies and certificate bundles of the environment still count.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import requests
import urllib3

from shared.mailchimp.api_root import require_address
from shared.mailchimp.errors import ReplyUnusable, RequestInvalid, Unavailable
from shared.telemetry import calling

USER_AGENT = "segments-to-mailchimp/1"

# 500 members come back as about 1.8 MB, up to 50 tags each and long merge values may make that a multiple.
_MAX_REPLY_BYTES = 64 * 1024 * 1024
# An error document may name all 500 rows, each with a sentence or two.
_MAX_ERROR_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024

_NETWORK_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the status, the Retry-After header if any, the body (decompressed; of an error at most 1 MiB)."""

    status: int
    retry_after: str | None
    body: bytes = field(repr=False)


class Transport:
    """Sends single requests to one host. May be used from several threads at once, as `requests` adapters may."""

    def __init__(
        self,
        root: str,
        *,
        session: requests.Session | None = None,
        connect_timeout_s: float = 10,
        read_timeout_s: float = 130,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = require_address(root)
        self._owned = session is None
        self._session = session or requests.Session()
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self._monotonic = monotonic
        # Once, not per call: proxies and certificate bundle for this host, from the session and the environment.
        settings = self._session.merge_environment_settings(self.root + "/", {}, True, None, None)
        self._verify = True if settings["verify"] is None else settings["verify"]
        self._proxies, self._cert = settings["proxies"], settings["cert"]

    def close(self) -> None:
        """Closes the connections, unless the session was passed in: then they are its owner's."""
        if self._owned:
            self._session.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """One request, one reply of whatever status. `doing` says for messages what the call was for.

        Raises Unavailable: no reply, or not the whole of it. RequestInvalid: the request cannot even be written.
        """
        with calling(doing, method, self.root + path) as call:
            own = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", **call.headers}
            try:
                url = self.root + path + ("?" + urlencode(query) if query else "")
                request = requests.Request(method, url, headers={**own, **headers}, data=body).prepare()
            except (requests.RequestException, ValueError):
                failure: RequestInvalid | Unavailable = RequestInvalid(
                    f"The call for {doing} cannot be written.",
                    action="This is a defect of the app: tell your administrator.",
                )
            else:
                outcome = self._exchange(request, doing)
                if isinstance(outcome, Reply):
                    call.ended(outcome.status)
                    return outcome
                call.ended(outcome.status, outcome.reason)
                failure = outcome
        # Raised outside the handlers: the library's error holds the request with its token and addresses.
        raise failure

    def _exchange(self, request: requests.PreparedRequest, doing: str) -> Reply | Unavailable:
        try:
            response = self._session.get_adapter(self.root + "/").send(
                request, True, self._timeouts, self._verify, self._cert, self._proxies
            )
        except _NETWORK_ERRORS as error:
            return _not_answered(error, doing)
        status = response.status_code
        try:
            return Reply(status, response.headers.get("Retry-After"), self._read_body(response, doing))
        except Unavailable as error:
            return error
        except _NETWORK_ERRORS as error:
            return Unavailable(
                f"Mailchimp's answer ({status}) broke off while {doing}.",
                reason="timeout" if _is_timeout(error) else "connectionLost",
                outcome_unknown=True,
                status=status,
            )
        finally:
            response.close()  # gives the connection back if the body was read to its end, else closes it

    def _read_body(self, response: requests.Response, doing: str) -> bytes:
        """The decompressed body, read as it arrives, so that neither its size nor its slowness has the last word."""
        status = response.status_code
        succeeded = 200 <= status < 300
        limit = _MAX_REPLY_BYTES if succeeded else _MAX_ERROR_BYTES
        deadline = self._monotonic() + self._timeouts[1]
        compressed = "Content-Encoding" in response.headers  # if not, a copy of each piece is saved
        pieces: list[bytes] = []
        size = 0
        while piece := response.raw.read1(min(_PIECE_BYTES, limit + 1 - size), decode_content=compressed):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                if succeeded:
                    raise ReplyUnusable(
                        f"Mailchimp's answer while {doing} is larger than {limit:,} bytes.", status=status
                    )
                break
            if self._monotonic() > deadline:
                raise Unavailable(
                    f"Mailchimp's answer ({status}) did not end in time while {doing}.",
                    reason="timeout",
                    outcome_unknown=True,
                    status=status,
                )
        return b"".join(pieces)[:limit]


def _not_answered(error: Exception, doing: str) -> Unavailable:
    """No status line came.

    Only where the connection itself failed is it certain that Mailchimp did not see the request.
    """
    if _never_sent(error):
        return Unavailable(
            f"Mailchimp could not be reached while {doing}.", reason="notConnected", outcome_unknown=False
        )
    if _is_timeout(error):
        return Unavailable(f"Mailchimp did not answer in time while {doing}.", reason="timeout", outcome_unknown=True)
    # Also a kept-alive connection that Mailchimp closed just now: it may have read the request before.
    return Unavailable(
        f"The connection to Mailchimp broke off while {doing}.", reason="connectionLost", outcome_unknown=True
    )


def _never_sent(error: Exception) -> bool:
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    not_connected = (
        urllib3.exceptions.NewConnectionError,  # refused, no route, and, as its subclass, a name that does not resolve
        urllib3.exceptions.ConnectTimeoutError,
        urllib3.exceptions.ProxyError,
        ssl.SSLCertVerificationError,
    )
    return any(isinstance(cause, not_connected) for cause in _causes(error))


def _is_timeout(error: Exception) -> bool:
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    return any(isinstance(cause, timeouts) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what is wrapped in it: requests and urllib3 pass the cause as an argument or as `reason`."""
    seen: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting and len(seen) < 20:
        current = waiting.pop()
        if any(current is known for known in seen):
            continue
        seen.append(current)
        yield current
        inner = [getattr(current, "reason", None), current.__cause__, *current.args]
        waiting += [cause for cause in inner if isinstance(cause, BaseException)]
