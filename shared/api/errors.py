"""Every error that the API answers: one document, and the table that says which status an exception becomes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from azure.core.exceptions import AzureError
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from shared import log
from shared.destinations import errors as destinations
from shared.exports import errors as exports
from shared.mailchimp import errors as mailchimp
from shared.mailchimp.access import LookupsBusy
from shared.plain_faults import plain_fault
from shared.schedule.errors import ScheduleChanged, ScheduleInvalid
from shared.secrets.store import SecretStoreError
from shared.segments import errors as segments
from shared.storage.json_documents import JsonDocument


class ErrorDetail(JsonDocument):
    """One of several faults of a request."""

    code: str
    """For programs."""
    message: str
    """For people."""
    target: str | None = None
    """The property or parameter at fault, e.g. `segments[2]`."""


class ErrorBody(JsonDocument):
    """Why a request was not fulfilled."""

    code: str
    """For programs. Codes may be added."""
    message: str
    """For people: what happened, and what to do."""
    target: str | None = None
    """The property or parameter at fault, e.g. `dataMatching.email`."""
    details: list[ErrorDetail] = Field(default_factory=list)
    """Every fault, where there are several."""


class ErrorDocument(JsonDocument):
    """The body of every answer with a status of 400 and up."""

    error: ErrorBody
    """What is wrong."""


class ApiError(Exception):
    """An answer that the API itself decides on."""

    def __init__(self, status: int, code: str, message: str, target: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.target = target


_RETRY_SOON: Final = 3
_RETRY_LATER: Final = 30

_STATUS: Final[Mapping[type[Exception], int]] = {
    destinations.DestinationError: 400,
    destinations.DestinationNotFound: 404,
    destinations.DestinationChanged: 412,
    destinations.DestinationBeingRemoved: 409,
    destinations.TagsAreKept: 409,
    destinations.DestinationNameTaken: 409,
    destinations.ConsentRequired: 422,
    destinations.NotConnected: 409,
    destinations.ConfirmationNeeded: 409,
    destinations.SignInRefused: 422,
    destinations.ConfigurationInvalid: 422,
    destinations.OAuthNotConfigured: 409,
    destinations.PersonUnknown: 403,
    destinations.ReturnToNotAllowed: 422,
    destinations.AuthorizationError: 400,
    destinations.AuthorizationOfAnother: 403,
    destinations.AuthorizationUsed: 409,
    destinations.AuthorizationInProgress: 409,
    destinations.AuthorizationFailed: 502,
    exports.ExportError: 400,
    exports.ExportNotFound: 404,
    exports.ExportRunning: 409,
    exports.ExportEnded: 409,
    exports.DestinationNotReady: 409,
    exports.RejectedNotReady: 409,
    exports.RejectedExpired: 410,
    exports.ExportNotEnded: 409,
    exports.NothingToResume: 409,
    exports.ResumeExpired: 409,
    exports.AlreadyResumed: 409,
    exports.ResumeTargetChanged: 409,
    exports.NewerExportSent: 409,
    ScheduleInvalid: 422,
    ScheduleChanged: 412,
    segments.SegmentError: 409,
    segments.SegmentNotFound: 404,
    mailchimp.MailchimpError: 502,
    mailchimp.Unavailable: 503,
    mailchimp.ApiKeyMalformed: 422,
    mailchimp.AudienceNotFound: 404,
    mailchimp.AccessForbidden: 409,
    mailchimp.AccountRestricted: 409,
    LookupsBusy: 503,
    SecretStoreError: 503,
    AzureError: 503,
}

KNOWN_ERRORS: Final[tuple[type[Exception], ...]] = (ApiError, *_STATUS)
"""Everything that is answered with a sentence of its own."""

_STORAGE_MESSAGE: Final = "The app's storage or secret store did not answer as it should. Try again in a few seconds."


def error_response(
    status: int,
    code: str,
    message: str,
    target: str | None = None,
    details: Sequence[ErrorDetail] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for one error. Everything beyond ASCII is escaped."""
    found = [{"code": each.code, "message": each.message, "target": each.target} for each in details]
    body = {"error": {"code": code, "message": message, "target": target, "details": found}}
    return Response(json.dumps(body), status, headers, media_type="application/json")


def unreadable_request() -> Response:
    """The answer to a request that does not reach the API, because its address or headers hold what none can hold."""
    return error_response(400, "unreadableRequest", "The address or a header of the request is not readable text.")


def add_error_handlers(app: FastAPI, public_url: str) -> None:
    """Make ``app`` answer every known exception with an ``ErrorDocument``. The gate answers the unknown ones."""

    def known(_: Request, error: Exception) -> Response:
        response = answer_to(error, public_url)
        if response.status_code >= 500:
            http_status = getattr(error, "status_code", None)
            log.event("api.unavailable", level=logging.WARNING, errorType=type(error).__name__, httpStatus=http_status)
        return response

    def http_error(request: Request, error: Exception) -> Response:
        response = _http_error(request, error)
        if response.status_code == 405:
            response.headers["Allow"] = ", ".join(_methods_at(request.scope, app.routes))
        return response

    for kind in (*_STATUS, ApiError):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)


def status_of(error: Exception) -> int:
    """The status of an answer for one of KNOWN_ERRORS."""
    if isinstance(error, ApiError):
        return error.status
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def answer_to(error: Exception, public_url: str) -> Response:
    """The answer for one of KNOWN_ERRORS. The documentation's examples are made by it too."""
    status = status_of(error)
    if isinstance(error, ApiError):
        return error_response(status, error.code, str(error), error.target)
    code = str(getattr(error, "code", "") or type(error).__name__)
    target: str | None = getattr(error, "target", None)
    message = str(error)
    details: list[ErrorDetail] = []
    headers: dict[str, str] = {}
    match error:
        case destinations.ConfigurationInvalid():
            details = [ErrorDetail(code=f.code, message=f.message, target=f.target) for f in error.findings]
        case exports.ExportRunning():
            headers["Operation-Location"] = f"{public_url}/api/exports/{error.export_id}"
            details = [ErrorDetail(code=code, message="The running export.", target=error.export_id)]
        case exports.AlreadyResumed():
            headers["Operation-Location"] = f"{public_url}/api/exports/{error.resumed_by}"
            details = [ErrorDetail(code=code, message="The export that resumed it.", target=error.resumed_by)]
        case exports.NewerExportSent():
            details = [ErrorDetail(code=code, message="The newer export.", target=error.newer)]
        case exports.DestinationNotReady():
            details = [ErrorDetail(code="stepMissing", message=step) for step in error.steps]
        case mailchimp.Unavailable():
            message = f"{error.message} Try again in a moment."
            headers["Retry-After"] = str(int(error.retry_after_s or _RETRY_LATER))
        case mailchimp.MailchimpError():
            target = "apiKey" if isinstance(error, mailchimp.ApiKeyMalformed) else None
            message = f"{error.message} {error.action}"
        case LookupsBusy():
            code, headers["Retry-After"] = "mailchimpBusy", str(_RETRY_SOON)
        case SecretStoreError():
            headers["Retry-After"] = str(_RETRY_LATER)
        case AzureError():
            code, message = "storageUnavailable", _STORAGE_MESSAGE
            headers["Retry-After"] = str(_RETRY_SOON)
    return error_response(status, code, message, target, details, headers)


_HTTP_MESSAGES: Final = {
    400: ("invalidJson", "The body is not readable JSON."),
    404: ("notFound", "There is nothing at this address. GET /api/docs lists all calls."),
    405: ("methodNotAllowed", "This address does not take this method. GET /api/docs lists all calls."),
}


def _http_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code, message = _HTTP_MESSAGES.get(error.status_code, ("refused", str(error.detail)))
    return error_response(error.status_code, code, message, headers=error.headers)


_DETAILS_AT_MOST: Final = 100
"""A megabyte of mistakes would be answered with forty megabytes of sentences."""


def _methods_at(scope: Scope, routes: Sequence[BaseRoute]) -> list[str]:
    """The methods that the address takes: all of them (RFC 9110, 10.2.1), where Starlette names one route's only."""

    def is_taken(method: str) -> bool:
        return any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)

    return [method for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if is_taken(method)]


def _invalid_request(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    findings = error.errors()
    details = [_validation_detail(found) for found in findings[:_DETAILS_AT_MOST]]
    kinds = {str(found["type"]) for found in findings}
    places = {found["loc"][0] for found in findings}
    first = details[0]
    if "json_invalid" in kinds:
        return error_response(400, "invalidJson", f"The body is not JSON: {first.message}.")
    if any(found["loc"] == ("body",) for found in findings):
        if "string_unicode" in kinds:
            return error_response(400, "invalidJson", "The body holds text that is not Unicode.")
        if "missing" in kinds:
            return error_response(400, "bodyMissing", "The request needs a body: a JSON object.")
        return error_response(400, "notAnObject", "The body must be one JSON object.")
    if places == {"path"}:
        return error_response(404, "notFound", "There is nothing with this ID or name.", first.target)
    more = "" if len(findings) == 1 else f" (and {len(findings) - 1} more: see details)"
    return error_response(422, "invalidRequest", f"{first.target}: {first.message}{more}", first.target, details)


def _validation_detail(found: Mapping[str, Any]) -> ErrorDetail:
    """One finding of the validation. The value itself is never repeated: it may be a secret."""
    message = plain_fault(str(found["msg"]))
    message = f"{message[:1].upper()}{message[1:]}."
    code = str(found["type"])
    if code == "json_invalid":
        message = f"{found['ctx']['error']}, at character {found['loc'][-1]}"
    elif found["loc"][-1] == "[key]":
        message = "This is not a merge tag: a tag has 1 to 50 upper-case letters, digits and underscores."
    return ErrorDetail(code=code, message=_MESSAGES.get(code, message), target=_target(found["loc"]))


_MESSAGES: Final = {
    "string_unicode": "This holds text that is not Unicode.",
    "extra_forbidden": "There is no property of this name here.",
    "missing": "This is required.",
    "model_type": "This must be an object.",
    "model_attributes_type": "This must be an object.",
}


def _target(location: Sequence[str | int]) -> str:
    """The location in the words of the request: ``segments[2]``, ``dataMatching.email``."""
    target = ""
    for part in location[1:] or location:
        if isinstance(part, int):
            target += f"[{part}]"
        elif not part.startswith("<") and part != "[key]":  # "<…>" is an arm of a union: destinations/requests.py
            target += f".{part}" if target else part
    return target[:200]
