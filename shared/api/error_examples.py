"""One example of every error that the API answers. The OpenAPI document shows them, as the API itself words them.

A route names its errors by their codes (``shared/api/answers.py``); one that is not here keeps the API from starting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from azure.core.exceptions import ServiceResponseTimeoutError

from shared.api.errors import ApiError, answer_to
from shared.destinations import errors as destinations
from shared.exports import errors as exports
from shared.exports.resume import RESUMABLE_FOR
from shared.mailchimp import errors as mailchimp
from shared.mailchimp.access import LookupsBusy
from shared.schedule.errors import ScheduleChanged, ScheduleInvalid
from shared.secrets.store import SecretStoreError
from shared.segments import errors as segments

_DESTINATION: Final = "5f0c2a9be1d47836"
_EXPORT: Final = "20261122T060000214816Z-c41d07b6e53f9a28"
_NEWER_EXPORT: Final = "20261123T081502690171Z-0e6fd1935ab7c284"

_KEY_REFUSED: Final = (
    "Mailchimp does not accept the sign-in of this destination. Nothing was stored. Sign in to Mailchimp again for "
    "this destination, or enter a new API key."
)
_CONFIGURATION_FINDINGS: Final = (
    destinations.Finding(
        "fieldNotInSegment",
        "The segment 'Silver' has no field 'LastName'. Did you mean 'Lastname'?",
        "dataMatching.lastName",
    ),
    destinations.Finding("segmentNotFound", str(segments.SegmentNotFound("Glod")), "segments[1]"),
)

_ERRORS: Final = (
    # any call: shared/api/gate.py, shared/api/errors.py
    ApiError(400, "invalidJson", "The body is not JSON: Expecting ',' delimiter, at character 27."),
    ApiError(400, "unreadableRequest", "The address or a header of the request is not readable text."),
    ApiError(400, "bodyMissing", "The request needs a body: a JSON object."),
    ApiError(400, "notAnObject", "The body must be one JSON object."),
    ApiError(401, "signInRequired", "You are not signed in. Sign in with Entra ID first."),
    ApiError(
        403,
        "roleMissing",
        "This needs the role Administrator. Ask an administrator of the app to assign it to you in Entra ID.",
    ),
    ApiError(
        403,
        "notLocal",
        "Without App Service authentication the app answers only on this machine: use http://127.0.0.1 or "
        "http://localhost, without a proxy.",
    ),
    ApiError(
        403,
        "foreignOrigin",
        "The request comes from a page of another site. An administrator can add its origin to the setting "
        "PORTAL_ORIGINS.",
        "Origin",
    ),
    ApiError(404, "notFound", "There is nothing with this ID or name.", "destinationId"),
    ApiError(413, "bodyTooLarge", "The body is larger than 1,048,576 bytes."),
    ApiError(415, "notJson", "Send the body as JSON, with the header Content-Type: application/json.", "Content-Type"),
    ApiError(422, "invalidRequest", "displayName: This is required.", "displayName"),
    ApiError(
        500,
        "unexpectedError",
        "Something unexpected happened. If it happens again, look for 'c9f8a0de-6a3c-4a52-9c0f-2f6d1f0b7a11' in the "
        "app's log.",
    ),
    ApiError(
        503,
        "authenticationOff",
        "This app answers nothing while App Service authentication is off. Turn it on (Authentication, add the "
        "Microsoft identity provider, require authentication).",
    ),
    ServiceResponseTimeoutError("storage"),
    # single routes
    ApiError(
        403,
        "notShared",
        "The destination 'Newsletter' was not given to you. Ask an administrator of the app to add you to its "
        "contributors.",
    ),
    destinations.DestinationNotFound(_DESTINATION),
    destinations.OAuthNotConfigured(),
    destinations.PersonUnknown(),
    destinations.ReturnToNotAllowed(),
    destinations.DestinationChanged(_DESTINATION),
    destinations.DestinationBeingRemoved(_DESTINATION),
    destinations.TagsAreKept(_DESTINATION),
    destinations.DestinationNameTaken("Newsletter"),
    destinations.ConsentRequired(),
    destinations.NotConnected(_DESTINATION, again=True),
    destinations.ConfirmationNeeded("Customers", "Partners"),
    destinations.SignInRefused(_KEY_REFUSED),
    destinations.ConfigurationInvalid(_CONFIGURATION_FINDINGS),
    exports.ExportNotFound(_EXPORT),
    exports.ExportRunning(_EXPORT),
    exports.ExportEnded(_EXPORT, "Successful"),
    exports.DestinationNotReady(["choose an audience", "choose at least one segment"]),
    exports.RejectedNotReady(_EXPORT),
    exports.RejectedExpired(_EXPORT),
    exports.ExportNotEnded(_EXPORT),
    exports.NothingToResume(_EXPORT, "Successful"),
    exports.ResumeExpired(_EXPORT, RESUMABLE_FOR.days),
    exports.AlreadyResumed(_EXPORT, _NEWER_EXPORT),
    exports.ResumeTargetChanged(_EXPORT),
    exports.NewerExportSent(_EXPORT, _NEWER_EXPORT),
    ScheduleInvalid(
        "'Europe/Berln' is not the name of a time zone (IANA or Windows). Did you mean 'Europe/Berlin'?", "timeZone"
    ),
    ScheduleChanged(),
    segments.SegmentNotFound("Glod"),
    segments.ContainerMissing("segments"),
    segments.ModelInvalid("CustomerInsights/model.json", "entities[2].name", "must be a text of 1 to 256 characters."),
    segments.LocationRefused(
        "CustomerInsights/model.json",
        "entities[0].partitions[0].location",
        "https://other.blob.core.windows.net/segments/Gold.csv",
        "is outside the configured storage account and container ('contosolake', 'segments')",
    ),
    segments.SourceMissing("Gold/part-0.csv"),
    segments.SourceUnreadable("Gold/part-0.csv", 1, "is longer than 1,048,576 bytes."),
    mailchimp.ApiKeyMalformed(
        "This is not a Mailchimp API key: a key ends in its data centre, for example -us19.",
        action="Copy the whole key from Mailchimp (Account & billing, Extras, API keys), including the part after the "
        "last hyphen.",
    ),
    mailchimp.AudienceNotFound("a1b2c3d4e5"),
    mailchimp.AccessForbidden(
        "Mailchimp does not allow this user to do that.",
        action="Connect the destination with a Mailchimp user who is at least a Manager of this account.",
    ),
    mailchimp.AccountRestricted(
        "Mailchimp has restricted this account for compliance reasons.",
        action="Log in to Mailchimp and follow the notice on the dashboard, or write to Mailchimp's compliance team. "
        "Then export again.",
    ),
    mailchimp.RequestInvalid(
        "Mailchimp did not accept the call (405) while reading the audiences.",
        action="This is a defect of the app: tell your administrator, with the time of the call.",
    ),
    mailchimp.BatchRefused("Mailchimp refused the whole call (400) while tagging members."),
    mailchimp.ApiRootRefused(
        "The address is not one of Mailchimp's (https://<data centre>.api.mailchimp.com); nothing was sent to it.",
        action="Connect the destination to Mailchimp again. For a test server, set MAILCHIMP_API_URL to its address.",
    ),
    mailchimp.Unavailable(
        "Mailchimp reported an error of its own (503) while reading the audiences.",
        reason="serverError",
        outcome_unknown=False,
    ),
    mailchimp.ReplyUnusable("Mailchimp's answer while reading the audiences is empty."),
    LookupsBusy("All connections kept for looking things up in Mailchimp are in use. Try again soon."),
    SecretStoreError("The secret store does not answer. Try again in half a minute."),
)


@dataclass(frozen=True, slots=True)
class ErrorExample:
    """``body`` is an ``ErrorDocument``."""

    status: int
    body: dict[str, Any]


def _examples() -> dict[str, ErrorExample]:
    found = {}
    for error in _ERRORS:
        response = answer_to(error, "")
        body = json.loads(bytes(response.body))
        found[body["error"]["code"]] = ErrorExample(response.status_code, body)
    return found


EXAMPLES: Final[Mapping[str, ErrorExample]] = MappingProxyType(_examples())
"""By code."""
