"""Routes of a destination's Mailchimp sign-in, and of what is looked up over it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from fastapi import APIRouter, Request, Response

from shared.api.answers import ASKS_MAILCHIMP, CHANGES_DESTINATION, ETAG, errors, sends
from shared.api.auth import Administrator, Contributor, Viewer, open_destination
from shared.api.destinations import answer
from shared.api.paging import DEFAULT_TOP, After, Key, Page, Top, cut_page, decode, number_in
from shared.api.parameters import AudienceId, DestinationId
from shared.api.services import Services
from shared.destinations.connections import AudienceChoice, VerifiedConnection
from shared.destinations.requests import ApiKeyRequest
from shared.destinations.view import DestinationView
from shared.storage.json_documents import JsonDocument


class MergeFieldView(JsonDocument):
    """A field of an audience that profile fields can be matched to."""

    tag: str
    """Its name in the data matching, e.g. `FNAME`."""
    name: str
    """Its label in Mailchimp."""
    type: str
    """Mailchimp's type, e.g. text, number, date, birthday, address."""
    required: bool
    """Whether Mailchimp may refuse members without it."""


class AudienceView(JsonDocument):
    """An audience of the signed-in account."""

    id: str
    name: str
    member_count: int
    """Subscribed contacts in it now."""
    double_optin: bool
    """Whether it asks people to confirm by e-mail (double opt-in). Contacts that an export adds are not asked."""
    marketing_permissions: bool
    """Whether it has GDPR fields."""
    merge_fields: list[MergeFieldView] | None = None
    """Null in long lists: ask for the one audience then."""


class VerifiedSignIn(JsonDocument):
    """What Mailchimp says of the sign-in."""

    account_id: str
    """Mailchimp's ID of the account."""
    account_name: str
    """The company's name in Mailchimp."""
    role: str
    """The role of the Mailchimp user."""
    plan: str
    """The account's pricing plan."""
    data_centre: str
    """Where the account lies, e.g. us19."""
    contacts: int
    """Contacts in all audiences of the account."""


class AudienceList(Page):
    """The audiences of the signed-in account, in Mailchimp's order."""

    value: list[AudienceView]
    """In Mailchimp's order."""


def routes(services: Services) -> APIRouter:
    """The routes of a destination's connection."""
    router = APIRouter(prefix="/api/destinations/{destinationId}", tags=["connection"])
    connections = services.connections

    @router.put(
        "/api-key",
        responses={
            200: sends(ETAG),
            **errors(*CHANGES_DESTINATION, *ASKS_MAILCHIMP, "apiKeyMalformed", "signInRefused"),
        },
    )
    def sign_in_with_api_key(
        destination_id: DestinationId, body: ApiKeyRequest, user: Administrator, response: Response
    ) -> DestinationView:
        """Sign in to Mailchimp with an API key. Mailchimp is asked first; a refused key is not stored."""
        return answer(connections.sign_in_with_api_key(destination_id, body.api_key, user.person), response)

    @router.post(
        "/verify", responses=errors("destinationNotFound", "destinationBeingRemoved", "notShared", *ASKS_MAILCHIMP)
    )
    def verify_sign_in(destination_id: DestinationId, user: Contributor) -> VerifiedSignIn:
        """Ask Mailchimp now whether it accepts the sign-in. If not, the destination needs authentication: 409."""
        open_destination(services.destinations, destination_id, user)
        return _verified(connections.verify(destination_id))

    @router.get("/audiences", responses=errors("destinationNotFound", *ASKS_MAILCHIMP))
    def list_audiences(
        destination_id: DestinationId, _: Viewer, request: Request, top: Top = DEFAULT_TOP, after: After = None
    ) -> AudienceList:
        """The audiences of the signed-in Mailchimp account, to pick one; the first twenty with their merge fields."""
        cursor = _cursor(after)
        found = _behind(connections.audiences(destination_id), cursor)
        page = cut_page(found, _place, top=top, request=request, public_url=services.settings.public_url)
        return AudienceList(value=[_audience(choice) for _, choice in page.items], next_link=page.next_link)

    @router.get("/audiences/{audienceId}", responses=errors("destinationNotFound", "audienceNotFound", *ASKS_MAILCHIMP))
    def get_audience(destination_id: DestinationId, audience_id: AudienceId, _: Viewer) -> AudienceView:
        """One audience with its merge fields."""
        return _audience(connections.audience(destination_id, audience_id))

    return router


_Placed = tuple[int, AudienceChoice]
"""An audience and its place in Mailchimp's order."""


def _place(placed: _Placed) -> Key:
    number, choice = placed
    return str(number), choice.audience.id


def _cursor(after: str | None) -> tuple[int, str] | None:
    key = decode(after, 2)
    if key is None:
        return None
    place, audience_id = key
    return number_in(place), audience_id


def _behind(choices: Sequence[AudienceChoice], cursor: tuple[int, str] | None) -> Iterable[_Placed]:
    """What follows the audience of the cursor; where that one is gone, what has moved up to its place."""
    if cursor is None:
        return enumerate(choices)
    place, audience_id = cursor
    ids = [choice.audience.id for choice in choices]
    start = ids.index(audience_id) + 1 if audience_id in ids else place
    return islice(enumerate(choices), start, None)


def _verified(found: VerifiedConnection) -> VerifiedSignIn:
    return VerifiedSignIn(
        account_id=found.account.account_id,
        account_name=found.account.account_name,
        role=found.account.role,
        plan=found.account.pricing_plan,
        data_centre=found.data_centre,
        contacts=found.account.total_subscribers,
    )


def _audience(choice: AudienceChoice) -> AudienceView:
    fields = choice.merge_fields
    return AudienceView(
        id=choice.audience.id,
        name=choice.audience.name,
        member_count=choice.audience.member_count,
        double_optin=choice.audience.double_optin,
        marketing_permissions=choice.audience.marketing_permissions,
        merge_fields=None
        if fields is None
        else [MergeFieldView(tag=f.tag, name=f.name, type=f.type, required=f.required) for f in fields],
    )
