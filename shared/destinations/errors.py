"""Errors of destinations.

DestinationError
 ├ DestinationNotFound     no destination has this ID
 ├ DestinationChanged      somebody else changed it since it was read
 ├ DestinationBeingRemoved its removal has begun
 ├ TagsAreKept             its removal has gone too far for the tags to be taken away
 ├ DestinationNameTaken    another destination has the display name
 ├ ConsentRequired         nobody agreed that profiles leave for Mailchimp
 ├ NotConnected            there is no Mailchimp sign-in yet, or it was refused
 ├ SignInRefused           Mailchimp does not accept the API key
 ├ ConfirmationNeeded      a change with consequences was not confirmed
 └ ConfigurationInvalid    audience, data matching or segments do not fit; holds every finding
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit: ``target`` is the property of the request, e.g. ``dataMatching.email``."""

    code: str
    message: str
    target: str


class DestinationError(Exception):
    """A destination cannot do what was asked; the message says why and what to do."""

    code = "destinationError"
    target: str | None = None


class DestinationNotFound(DestinationError):
    """Raised when no destination has the ID."""

    code = "destinationNotFound"

    def __init__(self, destination_id: str) -> None:
        super().__init__(f"There is no destination with the ID '{destination_id}'.")


class DestinationChanged(DestinationError):
    """Raised when the version that the change was made for is no longer the newest."""

    code = "destinationChanged"

    def __init__(self, destination_id: str) -> None:
        super().__init__(
            f"Destination '{destination_id}' was changed by somebody else in the meantime. "
            "Read it again and repeat your change."
        )


class DestinationBeingRemoved(DestinationError):
    """Raised when something is asked of a destination whose removal has begun but was interrupted."""

    code = "destinationBeingRemoved"

    def __init__(self, destination_id: str) -> None:
        super().__init__(f"Destination '{destination_id}' is being removed. Only its removal can be repeated.")


class TagsAreKept(DestinationError):
    """Raised when a removal that began by keeping the tags is asked to take them away, and its sign-in is gone."""

    code = "tagsAreKept"
    target = "tags"

    def __init__(self, destination_id: str) -> None:
        super().__init__(
            f"The removal of destination '{destination_id}' has begun with the tags kept, and its Mailchimp sign-in is "
            "deleted already. Take the tags away in Mailchimp."
        )


class DestinationNameTaken(DestinationError):
    """Raised when another destination has the display name; case and surrounding blanks make no difference."""

    code = "displayNameTaken"
    target = "displayName"

    def __init__(self, display_name: str) -> None:
        super().__init__(f"Another destination has the display name '{display_name}'. Choose another name.")


class ConsentRequired(DestinationError):
    """Raised when a destination is created without agreeing to data privacy and compliance."""

    code = "consentRequired"
    target = "consent.agreed"

    def __init__(self) -> None:
        super().__init__(
            "Nothing can be exported unless you agree to data privacy and compliance: read GET /api/consent-text "
            'and send "consent": {"agreed": true}.'
        )


class NotConnected(DestinationError):
    """Raised when Mailchimp has to be asked and the destination is not signed in."""

    code = "notConnected"

    def __init__(self, destination_id: str, *, again: bool) -> None:
        state = "has to sign in to Mailchimp again" if again else "is not signed in to Mailchimp"
        super().__init__(f"Destination '{destination_id}' {state}. Sign in first (POST …/authorize or PUT …/api-key).")


class SignInRefused(DestinationError):
    """Raised when Mailchimp does not accept an API key. Nothing was stored."""

    code = "signInRefused"
    target = "apiKey"


class ConfirmationNeeded(DestinationError):
    """Raised when the audience of a destination that has exported is changed without ``confirm``."""

    code = "confirmationNeeded"
    target = "audienceId"

    def __init__(self, old: str, new: str | None) -> None:
        where = f"The next export goes to '{new}' in full. " if new else ""
        super().__init__(
            f"This destination has exported to the audience '{old}'. Contacts and tags that it made there stay, and "
            f'are no longer updated. {where}To change the audience all the same, send "confirm": true.'
        )


class ConfigurationInvalid(DestinationError):
    """Raised when a change does not fit Mailchimp's audience or the segments. Nothing was changed."""

    code = "configurationInvalid"

    def __init__(self, findings: Sequence[Finding]) -> None:
        first = findings[0]
        more = "" if len(findings) == 1 else f" (and {len(findings) - 1} more: see details)"
        super().__init__(first.message + more)
        self.findings = tuple(findings)
        self.target = first.target
        self.code = first.code if len(findings) == 1 else type(self).code
