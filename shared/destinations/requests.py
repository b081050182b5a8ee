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
    """True to agree, false to withdraw."""


class DestinationRequest(Request):
    """A new destination."""

    display_name: DisplayName
    """Unique without regard to case."""
    consent: ConsentRequest | None = None
    """Without it nothing is created."""


class DuplicateRequest(Request):
    """A copy of a destination."""

    display_name: DisplayName
    """Of the copy."""
    consent: ConsentRequest | None = None
    """A copy needs consent of its own."""
    share_sign_in: TrueOrFalse = False
    """Connect the copy to the same Mailchimp account; otherwise somebody signs in."""


class ApiKeyRequest(Request):
    """A Mailchimp API key (in Mailchimp: Account & billing, Extras, API keys)."""

    api_key: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=256)] = Field(repr=False)
    """Ends in its data centre, e.g. -us19."""


class AddressMatchingRequest(Request):
    """The profile fields that make up a merge field of type address."""

    addr1: Name
    """The field with street and number."""
    city: Name
    """The field with the city."""
    state: Name
    """The field with the state or province."""
    zip: Name
    """The field with the postal code."""
    addr2: Name | None = None
    """The field with the second line."""
    country: Name | None = None
    """The field with the country."""


def _arm(value: Any) -> str:
    return "<field>" if isinstance(value, str) else "<address>"


MatchedTo = Annotated[
    Annotated[Name, Tag("<field>")] | Annotated[AddressMatchingRequest, Tag("<address>")], Discriminator(_arm)
]
"""One field, or the parts of an address. Told apart by type, so that a fault is reported for the one that was meant."""


class DataMatchingRequest(Request):
    """Which profile field is Email (required), which are the names, and which fill further merge fields."""

    email: Name
    """The field with the e-mail address."""
    first_name: Name | None = None
    """The field with the first name; goes to the merge field FNAME."""
    last_name: Name | None = None
    """The field with the last name; goes to the merge field LNAME."""
    merge_fields: Annotated[dict[MergeTag, MatchedTo], Field(max_length=MAX_MERGE_FIELDS)] = Field(default_factory=dict)
    """By merge tag, the field that fills it, or the parts of an address."""


class PersonRequest(Request):
    """A contributor."""

    id: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), PRINTABLE]
    """The object ID in Entra ID."""
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), PRINTABLE]
    """For people to read."""

    def person(self) -> Person:
        return Person(id=self.id, name=self.name)


class DestinationPatch(Request):
    """A change of a destination. What is left out stays."""

    display_name: DisplayName | None = None
    """Unique without regard to case."""
    audience_id: Annotated[str, StringConstraints(min_length=1, max_length=64), PRINTABLE] | None = None
    """One of GET …/audiences; null takes the audience away."""
    data_matching: DataMatchingRequest | None = None
    """Replaces the whole data matching; null takes it away."""
    segments: Annotated[tuple[Name, ...], Field(max_length=MAX_SEGMENTS)] | None = None
    """Names of all segments to export."""
    member_status: MemberStatus | None = None
    """What new members become."""
    enabled: TrueOrFalse | None = None
    """False: nothing is exported."""
    schedule: DestinationScheduleRequest | None = None
    """When it is exported by itself."""
    contributors: Annotated[tuple[PersonRequest, ...], Field(max_length=MAX_CONTRIBUTORS)] | None = None
    """All who may configure and run it beside the administrators."""
    every_contributor: TrueOrFalse | None = None
    """Whether everybody with the role Contributor may."""
    confirm: TrueOrFalse | None = None
    """Change the audience although the destination has exported to the present one."""
