"""Routes of those whom a destination's exports leave out because Mailchimp refused them for good."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator, Field, StringConstraints, ValidationInfo, field_validator

from shared.api.answers import errors
from shared.api.auth import Contributor, open_destination
from shared.api.paging import DEFAULT_TOP, After, Page, Top, cut_page, decode, number_in
from shared.api.parameters import DestinationId
from shared.api.services import Services
from shared.exports.suppressed import SharedWith, SuppressedMember
from shared.requests import Request as RequestBody
from shared.storage.json_documents import JsonDocument

MAX_EMAILS = 1000

Code = Literal["complianceState", "forgotten", "fakeOrInvalid", "invalidAddress"]
Email = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=320)]


def _is_true(value: object) -> object:
    if value is not True:
        raise ValueError("must be true, or left out")
    return value


class ClearRequest(RequestBody):
    """Whom to send again: `emails` or `all`, one of the two."""

    emails: Annotated[tuple[Email, ...], Field(min_length=1, max_length=MAX_EMAILS)] | None = None
    """Addresses, in any letter case. Those that are not suppressed do not matter."""
    all: Annotated[Literal[True], BeforeValidator(_is_true)] | None = Field(default=None, validate_default=True)
    """True: everybody."""

    @field_validator("all")
    @classmethod
    def _is_one_of_both(cls, value: Literal[True] | None, info: ValidationInfo) -> Literal[True] | None:
        if "emails" in info.data and (info.data["emails"] is None) == (value is None):
            raise ValueError("Either this or emails is required.")
        return value


class SuppressedMemberList(Page):
    """Those whom exports leave out because Mailchimp refused them for good, the newest export's first."""

    audience_id: str | None = None
    """The audience that it is about; null where none was chosen."""
    shared_with: list[SharedWith] = Field(default_factory=list)
    """Other destinations of this audience: they leave out the same people."""
    value: list[SuppressedMember]
    """The newest export's first."""


class ClearedMembers(JsonDocument):
    """What was cleared."""

    cleared: int
    """How many people the next export sends again."""
    shared_with: list[SharedWith] = Field(default_factory=list)
    """Other destinations of this audience: they send them again too."""


def routes(services: Services) -> APIRouter:
    """The routes under ``/api/destinations/{destinationId}/suppressed``."""
    router = APIRouter(prefix="/api/destinations/{destinationId}/suppressed", tags=["exports"])
    suppressed = services.suppressed

    @router.get("", responses=errors("notShared", "destinationNotFound"))
    def list_suppressed_members(
        destination_id: DestinationId,
        user: Contributor,
        request: Request,
        code: Annotated[Code | None, Query(description="Only those who were refused for this reason.")] = None,
        top: Top = DEFAULT_TOP,
        after: After = None,
    ) -> SuppressedMemberList:
        """Members whom exports leave out because Mailchimp refused them for good. Until when, and why.

        It is remembered for the audience, so its other destinations leave them out too. Personal data: not for viewers.
        """
        destination = open_destination(services.destinations, destination_id, user)
        found = suppressed.members(destination, code, _place(after), top + 1)
        page = cut_page(found.members, _key, top=top, request=request, public_url=services.settings.public_url)
        return SuppressedMemberList(
            audience_id=found.audience_id, shared_with=found.shared_with, value=page.items, next_link=page.next_link
        )

    @router.post("/clear", responses=errors("notShared", "destinationNotFound", "destinationBeingRemoved"))
    def clear_suppressed_members(
        destination_id: DestinationId, body: ClearRequest, user: Contributor
    ) -> ClearedMembers:
        """Clear suppressed members: the next export of every destination of this audience sends them again."""
        destination = open_destination(services.destinations, destination_id, user)
        done = suppressed.clear(destination, body.emails, user.person)
        return ClearedMembers(cleared=done.count, shared_with=done.shared_with)

    return router


def _key(member: SuppressedMember) -> tuple[str, str]:
    """The key of a member has no address: it becomes part of a link."""
    return member.export_id, str(member.number)


def _place(after: str | None) -> tuple[str, int] | None:
    key = decode(after, 2)
    if key is None:
        return None
    export_id, number = key
    return export_id, number_in(number)
