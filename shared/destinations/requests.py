"""What callers may ask of destinations: strict, unknown properties are refused."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import (
    Discriminator,
    Field,
    StringConstraints,
    Tag,
)

from shared.destinations.model import MemberStatus, MergeTag
from shared.people import Person
from shared.requests import PRINTABLE, Request, TrueOrFalse
from shared.schedule.requests import DestinationScheduleRequest

MAX_SEGMENTS: Final = 200
MAX_CONTRIBUTORS: Final = 200
MAX_MERGE_FIELDS: Final = 80
"""An audience has at most 30 merge fields, 80 on the highest plan (Mailchimp help, "Limits on merge fields")."""


DisplayName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128), PRINTABLE]
Name = Annotated[str, StringConstraints(min_length=1, max_length=512), PRINTABLE]
"""The name of a segment or of one of its fields, as the source gives it: blanks count."""


class ConsentRequest(Request):
    """Agreement to the text of ``GET /api/consent-text``."""

    agreed: TrueOrFalse


class DestinationRequest(Request):
    """A new destination."""

    display_name: DisplayName
    consent: ConsentRequest | None = None


class DuplicateRequest(Request):
    """A copy of a destination. ``shareSignIn``: connected to the same Mailchimp account."""

    display_name: DisplayName
    consent: ConsentRequest | None = None
    share_sign_in: TrueOrFalse = False


class ApiKeyRequest(Request):
    """A Mailchimp API key (Mailchimp: Account, Extras, API keys)."""

    api_key: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=256)] = Field(repr=False)


class AddressMatchingRequest(Request):
    """The profile fields that make up a merge field of type address."""

    addr1: Name
    city: Name
    state: Name
    zip: Name
    addr2: Name | None = None
    country: Name | None = None


def _arm(value: Any) -> str:
    return "<field>" if isinstance(value, str) else "<address>"


MatchedTo = Annotated[
    Annotated[Name, Tag("<field>")] | Annotated[AddressMatchingRequest, Tag("<address>")], Discriminator(_arm)
]
"""One field, or the parts of an address. Told apart by type, so that a fault is reported for the one that was meant."""


class DataMatchingRequest(Request):
    """Which profile field is Email (required), which are the names, and which fill further merge fields."""

    email: Name
    first_name: Name | None = None
    last_name: Name | None = None
    merge_fields: Annotated[dict[MergeTag, MatchedTo], Field(max_length=MAX_MERGE_FIELDS)] = Field(default_factory=dict)


class PersonRequest(Request):
    """A contributor: the object ID in Entra ID, and a name for people to read."""

    id: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), PRINTABLE]
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), PRINTABLE]

    def person(self) -> Person:
        return Person(id=self.id, name=self.name)


class DestinationPatch(Request):
    """A change of a destination. What is left out stays; null clears the audience or the data matching.

    ``confirm``: change the audience although the destination has exported to the present one.
    """

    display_name: DisplayName | None = None
    audience_id: Annotated[str, StringConstraints(min_length=1, max_length=64), PRINTABLE] | None = None
    data_matching: DataMatchingRequest | None = None
    segments: Annotated[tuple[Name, ...], Field(max_length=MAX_SEGMENTS)] | None = None
    member_status: MemberStatus | None = None
    enabled: TrueOrFalse | None = None
    schedule: DestinationScheduleRequest | None = None
    contributors: Annotated[tuple[PersonRequest, ...], Field(max_length=MAX_CONTRIBUTORS)] | None = None
    every_contributor: TrueOrFalse | None = None
    confirm: TrueOrFalse | None = None
