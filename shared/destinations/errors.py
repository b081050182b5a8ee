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
 ├ OAuthNotConfigured      there is no OAuth application to sign in with
 ├ PersonUnknown           the caller has no object ID that a sign-in could be bound to
 ├ ReturnToNotAllowed      a sign-in is to return to a page that is no portal of this app
 ├ AuthorizationError      a sign-in at Mailchimp that came back cannot be completed
 │  ├ AuthorizationMalformed    the address is not as Mailchimp makes it
 │  ├ AuthorizationUnknown      nobody began a sign-in with this state, or it was deleted since
 │  ├ AuthorizationOfAnother    somebody else began it
 │  ├ AuthorizationExpired      it took too long
 │  ├ AuthorizationUsed         it was completed before
 │  ├ AuthorizationInProgress   it is being completed at this moment
 │  ├ AuthorizationDenied       the person did not allow the access
 │  └ AuthorizationFailed       Mailchimp ended it with an error of its own
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
            f"Somebody else has changed destination '{destination_id}' in the meantime. Load it again and repeat your "
            "change."
        )


class DestinationBeingRemoved(DestinationError):
    """Raised when something is asked of a destination whose removal has begun but was interrupted."""

    code = "destinationBeingRemoved"

    def __init__(self, destination_id: str) -> None:
        super().__init__(
            f"Destination '{destination_id}' is being removed, so it can no longer be changed or exported. Only the "
            "removal itself can be repeated."
        )


class TagsAreKept(DestinationError):
    """Raised when a removal that began by keeping the tags is asked to take them away, and its sign-in is gone."""

    code = "tagsAreKept"
    target = "tags"

    def __init__(self, destination_id: str) -> None:
        super().__init__(
            f"The removal of destination '{destination_id}' began by keeping the tags, and its Mailchimp sign-in is "
            "already deleted. Remove the tags in Mailchimp yourself."
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
            "Nothing can be exported unless you agree to data privacy and compliance. Read the text (GET "
            '/api/consent-text), then send "consent": {"agreed": true}.'
        )


class NotConnected(DestinationError):
    """Raised when Mailchimp has to be asked and the destination is not signed in."""

    code = "notConnected"

    def __init__(self, destination_id: str, *, again: bool) -> None:
        state = (
            "no longer signed in. Sign in to Mailchimp again" if again else "not signed in to Mailchimp. Sign in first"
        )
        super().__init__(f"Destination '{destination_id}' is {state} (POST …/authorize or PUT …/api-key).")


class SignInRefused(DestinationError):
    """Raised when Mailchimp does not accept an API key. Nothing was stored."""

    code = "signInRefused"
    target = "apiKey"


class ConfirmationNeeded(DestinationError):
    """Raised when the audience of a destination that has exported is changed without ``confirm``."""

    code = "confirmationNeeded"
    target = "audienceId"

    def __init__(self, old: str, new: str | None) -> None:
        where = f"The next export sends everybody to '{new}'. " if new else ""
        super().__init__(
            f"This destination has exported to the audience '{old}'. The contacts and tags there stay, but are no "
            f'longer updated. {where}To change the audience all the same, send "confirm": true.'
        )


class OAuthNotConfigured(DestinationError):
    """Raised when a sign-in is to begin and the app has no OAuth application at Mailchimp."""

    code = "oauthNotConfigured"

    def __init__(self) -> None:
        super().__init__(
            "This app is not registered at Mailchimp: the settings MAILCHIMP_CLIENT_ID and MAILCHIMP_CLIENT_SECRET are "
            "missing, or the latter refers to a secret that Key Vault does not give. Ask the administrator who "
            "deployed it to set them, or sign in with an API key (PUT …/api-key)."
        )


class PersonUnknown(DestinationError):
    """Raised when a sign-in is to begin for a caller whom nothing identifies when the browser comes back."""

    code = "personUnknown"

    def __init__(self) -> None:
        super().__init__(
            "A sign-in to Mailchimp belongs to the person who starts it, but your sign-in to this app has no object ID "
            "(claim oid). Sign in with an account of your Entra ID tenant, or use an API key (PUT …/api-key)."
        )


class ReturnToNotAllowed(DestinationError):
    """Raised when ``returnTo`` has an origin that is not in the setting PORTAL_ORIGINS. It is not repeated."""

    code = "returnToNotAllowed"
    target = "returnTo"

    def __init__(self) -> None:
        super().__init__(
            "returnTo must be a page of a portal that this app knows: an address that begins with one of the origins "
            "in the setting PORTAL_ORIGINS, in visible ASCII characters. Leave it out to end on a plain page of this "
            "app."
        )


class AuthorizationError(DestinationError):
    """The root of what keeps a sign-in from being completed when the browser comes back; the sentence is for a person
    in front of it. Neither code nor state is in it."""

    code = "authorizationError"
    sentence = "The sign-in to Mailchimp could not be completed."

    def __init__(self) -> None:
        super().__init__(self.sentence)


class AuthorizationMalformed(AuthorizationError):
    """Raised when a parameter is missing, there more than once, too long, or not of the form it must have."""

    code = "authorizationMalformed"
    sentence = (
        "The address of this page is incomplete or was changed on its way from Mailchimp, so nothing was connected. "
        "Start the sign-in again from the destination, and complete it in one browser window."
    )


class AuthorizationUnknown(AuthorizationError):
    """Raised when no sign-in has this state: it was made up, or its sign-in is so old that it was deleted."""

    code = "authorizationUnknown"
    sentence = (
        "This sign-in is unknown here, or was started too long ago, so nothing was connected. Start it again from the "
        "destination."
    )


class AuthorizationOfAnother(AuthorizationError):
    """Raised when somebody else began the sign-in, who may still complete it."""

    code = "authorizationOfAnother"
    sentence = (
        "Somebody else started this sign-in, and only that person can complete it, so nothing was connected. Sign in "
        "to this app as that person and reload this page, or start a sign-in of your own from the destination."
    )


class AuthorizationExpired(AuthorizationError):
    """Raised when the person came back later than ten minutes after the beginning."""

    code = "authorizationExpired"
    sentence = (
        "This sign-in has expired, because it was not completed within ten minutes. Nothing was connected. Start it "
        "again from the destination."
    )


class AuthorizationUsed(AuthorizationError):
    """Raised when the sign-in was completed before, with whatever result."""

    code = "authorizationUsed"
    sentence = (
        "This sign-in was completed before and works only once, so nothing has changed now. If the destination is not "
        "connected, start the sign-in again from there."
    )


class AuthorizationInProgress(AuthorizationError):
    """Raised when the same sign-in is being completed at this moment, in another window say."""

    code = "authorizationInProgress"
    sentence = (
        "This sign-in is being completed right now, perhaps in another window. Look at the destination in a minute; if "
        "it is not connected by then, reload this page."
    )


class AuthorizationDenied(AuthorizationError):
    """Raised when the person did not allow the access at Mailchimp."""

    code = "authorizationDenied"
    sentence = (
        "You did not allow access in Mailchimp, so nothing was connected. To connect the destination after all, start "
        "the sign-in again from there and choose Allow."
    )


class AuthorizationFailed(AuthorizationError):
    """Raised when Mailchimp sent the browser back with an error that does not mean "denied"."""

    code = "authorizationFailed"
    sentence = (
        "Mailchimp ended the sign-in with an error, so nothing was connected. Start it again from the destination; if "
        "that happens again, connect the destination with an API key."
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
