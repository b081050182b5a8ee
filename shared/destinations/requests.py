"""What callers may ask of destinations: strict, unknown properties are refused."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
)
from pydantic.alias_generators import to_camel

from shared.destinations.model import MergeTag

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")

MAX_SEGMENTS: Final = 200
MAX_MERGE_FIELDS: Final = 80
"""An audience has at most 30 merge fields, 80 on the highest plan (Mailchimp help, "Limits on merge fields")."""


def _is_printable(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not hold control characters")
    return text


def _is_true_or_false(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004 - pydantic collects ValueError only
    return value


PRINTABLE: Final = AfterValidator(_is_printable)
DisplayName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), PRINTABLE]
Name = Annotated[str, StringConstraints(min_length=1, max_length=512), PRINTABLE]
"""The name of a segment or of one of its fields, as the source gives it: blanks count."""


class Request(BaseModel):
    """The base of all request bodies."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False, extra="forbid", frozen=True)


class ConsentRequest(Request):
    """Agreement to the text of ``GET /api/consent-text``."""

    agreed: Annotated[bool, BeforeValidator(_is_true_or_false)]


class DestinationRequest(Request):
    """A new destination."""

    display_name: DisplayName
    consent: ConsentRequest | None = None


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


class DestinationPatch(Request):
    """A change of a destination. What is left out stays; null clears the audience or the data matching."""

    display_name: DisplayName | None = None
    audience_id: Annotated[str, StringConstraints(min_length=1, max_length=64), PRINTABLE] | None = None
    data_matching: DataMatchingRequest | None = None
    segments: Annotated[tuple[Name, ...], Field(max_length=MAX_SEGMENTS)] | None = None
