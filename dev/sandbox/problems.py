"""Mailchimp's error documents.

Titles and details are those of Mailchimp's error glossary (mailchimp.com/developer/marketing/docs/errors/) and of
replies that users quote in public. Some real documents have no `type`: those are raised with ``type_url=None``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dev.sandbox.http import Reply

GLOSSARY = "https://mailchimp.com/developer/marketing/docs/errors/"
NOT_VALIDATED = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."


class ProblemError(Exception):
    """A call is refused as a whole; the sandbox answers with this document."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        type_url: str | None = GLOSSARY,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = errors
        self.type_url = type_url
        self.headers = headers

    def document(self, instance: str) -> dict[str, Any]:
        """The body, in the order in which Mailchimp writes it."""
        document: dict[str, Any] = {} if self.type_url is None else {"type": self.type_url}
        document |= {"title": self.title, "status": self.status, "detail": self.detail, "instance": instance}
        if self.status == 500:
            document["exception"] = instance.replace("-", "")
        if self.errors is not None:
            document["errors"] = self.errors
        return document

    def reply(self, instance: str) -> Reply:
        """The whole answer."""
        return Reply(
            status=self.status,
            body=msgspec.json.encode(self.document(instance)),
            content_type="application/problem+json; charset=utf-8",
            headers=self.headers,
        )


def invalid_resource(detail: str, errors: list[dict[str, str]] | None = None) -> ProblemError:
    """400 Invalid Resource: the body does not hold what it should."""
    return ProblemError(400, "Invalid Resource", detail, errors=errors)


def bad_request(detail: str) -> ProblemError:
    """400 Bad Request without a type, as quoted for names of tags that are taken."""
    return ProblemError(400, "Bad Request", detail, type_url=None)


def json_parse_error() -> ProblemError:
    """400 JSON Parse Error."""
    return ProblemError(400, "JSON Parse Error", "We encountered an unspecified JSON parsing error.")


def api_key_missing() -> ProblemError:
    """401 API Key Missing."""
    return ProblemError(401, "API Key Missing", "Your request did not include an API key.")


def api_key_invalid() -> ProblemError:
    """401 API Key Invalid."""
    return ProblemError(
        401, "API Key Invalid", "Your API key may be invalid, or you've attempted to access the wrong datacenter."
    )


def wrong_datacenter(datacenter: str) -> ProblemError:
    """403 for a key that belongs to another data centre."""
    return ProblemError(403, "Forbidden", f"The API key provided is linked to datacenter '{datacenter}'")


def user_disabled() -> ProblemError:
    """403 User Disabled."""
    return ProblemError(403, "User Disabled", "This account has been deactivated.")


def not_permitted() -> ProblemError:
    """403 for a restriction of the account, the role or the plan."""
    return ProblemError(403, "User action not permitted", "User does not have access to the requested operation")


def not_found() -> ProblemError:
    """404 Resource Not Found."""
    return ProblemError(404, "Resource Not Found", "The requested resource could not be found.")


def method_not_allowed(allowed: list[str]) -> ProblemError:
    """405 with the methods that the resource takes."""
    return ProblemError(
        405,
        "Method Not Allowed",
        "The requested method and resource are not compatible. See the Allow header for this resource's "
        "available methods.",
        headers=(("Allow", ", ".join(allowed)),),
    )


def too_many_requests(limit: int) -> ProblemError:
    """429 Too Many Requests: the limit of open calls is reached."""
    return ProblemError(429, "Too Many Requests", f"You have exceeded the limit of {limit} simultaneous connections.")


def internal_server_error() -> ProblemError:
    """500 with the type `about:blank`."""
    detail = "A deep, internal error has occurred during the processing of your request. Please contact support."
    return ProblemError(500, "Internal Server Error", detail, type_url="about:blank")


def compliance_related() -> ProblemError:
    """503 with a document: the account is restricted, which waiting does not cure."""
    return ProblemError(503, "Compliance Related", "This method has been disabled.")


def unnamed_row() -> ProblemError:
    """400 for a whole batch that does not say which row is at fault."""
    return invalid_resource(NOT_VALIDATED)


PRESETS = {
    "invalidResource": unnamed_row,
    "apiKeyInvalid": api_key_invalid,
    "userDisabled": user_disabled,
    "forbidden": not_permitted,
    "notFound": not_found,
    "internalServerError": internal_server_error,
    "complianceRelated": compliance_related,
}
