"""Why Mailchimp did not take a contact, in a word of our own and a sentence for the rejected-profiles file.

Mailchimp gives two codes for rows (ERROR_CONTACT_EXISTS, ERROR_GENERIC); the reason is in English sentences that may be
localised. So known words decide first, then the named field, and what is left is "other" with Mailchimp's own words
beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from shared.mailchimp.replies import RowError

RejectedCode = Literal[
    "complianceState",
    "forgotten",
    "fakeOrInvalid",
    "invalidAddress",
    "tooManySignups",
    "requiredFieldMissing",
    "mergeFieldInvalid",
    "contactExists",
    "other",
]


@dataclass(frozen=True, slots=True)
class RejectedReason:
    """code: stable, for filters and counts.

    retryable: a later export may succeed unchanged. action: one plain sentence. lasting: Mailchimp refuses the address
    itself, whatever is sent with it, and will go on doing so. What is neither may succeed when the data have changed.
    """

    code: RejectedCode
    retryable: bool
    action: str
    lasting: bool = False


_REASONS: dict[RejectedCode, RejectedReason] = {
    reason.code: reason
    for reason in (
        RejectedReason(
            "complianceState",
            False,
            "The contact unsubscribed, bounced or is under review. Only they can join again, with "
            "Mailchimp's sign-up form.",
            lasting=True,
        ),
        RejectedReason(
            "forgotten",
            False,
            "The contact was permanently deleted in Mailchimp. Only they can join again, with "
            "Mailchimp's sign-up form.",
            lasting=True,
        ),
        RejectedReason(
            "fakeOrInvalid",
            False,
            "Mailchimp considers this address fake or mistyped. Correct it at the source.",
            lasting=True,
        ),
        RejectedReason(
            "invalidAddress", False, "This is not a valid e-mail address. Correct it at the source.", lasting=True
        ),
        RejectedReason(
            "tooManySignups",
            True,
            "This person joined many lists recently, and Mailchimp holds them back for a while. Nothing to "
            "do: a later export tries again.",
        ),
        RejectedReason(
            "requiredFieldMissing",
            False,
            "The audience requires a field that is empty here. Fill it at the source, match it, or make "
            "it optional in Mailchimp.",
        ),
        RejectedReason(
            "mergeFieldInvalid",
            False,
            "A value does not fit its field in Mailchimp. Correct it at the source, or match another field.",
        ),
        RejectedReason(
            "contactExists",
            True,
            "The contact is already in the audience and was not changed. Nothing to do: a later export tries again.",
        ),
        RejectedReason("other", False, "Mailchimp did not take the contact. Its own words in the message say why."),
    )
}

LASTING: Final[Mapping[str, RejectedReason]] = MappingProxyType(
    {code: reason for code, reason in _REASONS.items() if reason.lasting}
)
"""By code, the reasons for which the address would be refused again."""

# In this order: a sentence about an address may also mention a field.
_WORDS: dict[RejectedCode, re.Pattern[str]] = {
    "contactExists": re.compile(r"already a list member|member exists"),
    "complianceState": re.compile(r"compliance (state|review)"),
    "forgotten": re.compile(r"permanently deleted|forgotten email"),
    "tooManySignups": re.compile(r"signed up to a lot of lists|not allowing more signups"),
    "fakeOrInvalid": re.compile(r"looks fake"),
    "invalidAddress": re.compile(r"valid email address|invalid email|email address is (not valid|invalid)"),
    "requiredFieldMissing": re.compile(
        r"should not be (blank|null)|(can ?not|can't|must not) be (blank|empty)|please enter a value|is required"
        r"|required (merge )?field|missing required"
    ),
    "mergeFieldInvalid": re.compile(r"merge fields? (were|was|is|are) invalid"),
}
_ADDRESS_FIELDS = {"email", "email_address", "email address"}


def classify_row_error(error: RowError) -> RejectedReason:
    """The reason for a refused row; `other` where neither the code, nor the words, nor a field tells more."""
    if error.code == "ERROR_CONTACT_EXISTS":
        return _REASONS["contactExists"]
    said = f"{error.message}\n{error.field_message}".lower()
    if error.email_address:
        said = said.replace(error.email_address.lower(), "")  # "compliance.state@…" is an address, not a reason
    for code, pattern in _WORDS.items():
        if pattern.search(said):
            return _REASONS[code]
    if error.field.lower() in _ADDRESS_FIELDS:
        return _REASONS["invalidAddress"]
    return _REASONS["mergeFieldInvalid" if error.field else "other"]
