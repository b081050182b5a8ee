"""Routes of destinations: set-up, sign-in, audiences, removal."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic.alias_generators import to_camel

from shared.api.answers import ASKS_MAILCHIMP, CHANGES_DESTINATION, ETAG, LOCATION, RETRY_AFTER, errors, sends
from shared.api.auth import Administrator, Contributor, Principal, Role, Viewer, may, open_destination, require_open
from shared.api.errors import ApiError
from shared.api.paging import DEFAULT_TOP, After, Key, Page, Top, behind, cut_page, decode
from shared.api.parameters import DestinationId, IfMatch, etag_wanted
from shared.api.services import Services
from shared.destinations import consent
from shared.destinations.model import Destination, TagsOnRemoval
from shared.destinations.readiness import Readiness
from shared.destinations.requests import (
    ConsentRequest,
    DestinationPatch,
    DestinationRequest,
    DuplicateRequest,
)
from shared.destinations.store import StoredDestination
from shared.destinations.view import DestinationView, view_of
from shared.storage.json_documents import JsonDocument

_CONTRIBUTOR_MAY_CHANGE = frozenset({"data_matching", "segments", "member_status", "enabled", "schedule"})


_POLL_SECONDS: Final = 2
_POLL_SECONDS_WITH_PROBLEM: Final = 15

Tags = Annotated[
    TagsOnRemoval | None,
    Query(
        description="What becomes of the tags in Mailchimp: `keep` (the default) leaves them, `remove` takes them from "
        "the members whom this destination has tagged. On a removal that has begun, `keep` gives up taking them away."
    ),
]


class DestinationList(Page):
    """Destinations, by display name."""

    value: list[DestinationView]
    """Ordered by display name."""


class ConsentText(JsonDocument):
    """What an administrator agrees to, and the version that is recorded."""

    version: str
    """Kept with every consent."""
    text: str
    """To be shown before somebody agrees."""


def routes(services: Services) -> APIRouter:
    """The routes under ``/api/destinations``, and the text of the consent."""
    router = APIRouter(prefix="/api", tags=["destinations"])
    destinations = services.destinations

    @router.get("/consent-text")
    def get_consent_text(_: Viewer) -> ConsentText:
        """What has to be agreed to before a destination can be created."""
        return ConsentText(version=consent.TEXT_VERSION, text=consent.TEXT)

    @router.get("/destinations")
    def list_destinations(_: Viewer, request: Request, top: Top = DEFAULT_TOP, after: After = None) -> DestinationList:
        """All destinations, by display name."""
        found = behind(destinations.list(), _key, decode(after, 2))
        page = cut_page(found, _key, top=top, request=request, public_url=services.settings.public_url)
        return DestinationList(value=[view_of(each) for each in page.items], next_link=page.next_link)

    @router.post(
        "/destinations",
        status_code=201,
        responses={201: sends(ETAG, LOCATION), **errors("displayNameTaken", "consentRequired")},
    )
    def create_destination(body: DestinationRequest, user: Administrator, response: Response) -> DestinationView:
        """Create a destination. Agreeing to data privacy and compliance (GET /api/consent-text) is required."""
        stored = destinations.create(body.display_name, body.consent, user.person)
        return _created(stored, response, services.settings.public_url)

    @router.get(
        "/destinations/{destinationId}",
        responses={200: sends(ETAG, RETRY_AFTER), **errors("destinationNotFound")},
    )
    def get_destination(destination_id: DestinationId, _: Viewer, response: Response) -> DestinationView:
        """One destination, with the steps that are still to do. Its ETag is for If-Match."""
        return answer(destinations.get(destination_id), response)

    @router.patch(
        "/destinations/{destinationId}",
        responses={
            200: sends(ETAG),
            **errors(
                *CHANGES_DESTINATION,
                *ASKS_MAILCHIMP,
                "notShared",
                "displayNameTaken",
                "confirmationNeeded",
                "configurationInvalid",
                "scheduleInvalid",
            ),
        },
    )
    def change_destination(
        destination_id: DestinationId,
        body: DestinationPatch,
        user: Contributor,
        response: Response,
        if_match: IfMatch = None,
    ) -> DestinationView:
        """Change the configuration. What is left out stays; everything is checked together, nothing is half changed.

        Contributors may change `dataMatching`, `segments`, `memberStatus`, `enabled` and `schedule` of destinations
        that were given to them, administrators everything.
        """
        if not may(user, Role.ADMINISTRATOR):
            _require_contributors_part(destinations.get(destination_id), body, user)
        return answer(destinations.patch(destination_id, body, user.person, etag_wanted(if_match)), response)

    @router.delete(
        "/destinations/{destinationId}",
        status_code=202,
        response_model=DestinationView,
        responses={
            202: sends(ETAG, RETRY_AFTER),
            204: {"description": "Nothing is left of it."},
            **errors("destinationNotFound", "tagsAreKept", "destinationChanged", "secretStoreError"),
        },
    )
    def remove_destination(
        destination_id: DestinationId,
        user: Administrator,
        response: Response,
        tags: Tags = None,
        if_match: IfMatch = None,
    ) -> DestinationView | Response:
        """Remove a destination: its running export is canceled, its sign-in and everything stored are deleted.

        204: it is gone. 202: something is left to do, `removal` of the answer says what, and it goes on by itself; GET
        shows it until it is gone. Repeating the call changes nothing.
        """
        stored = services.removals.remove(destination_id, user.person, etag_wanted(if_match), tags)
        return answer(stored, response) if stored is not None else Response(status_code=204)

    @router.put(
        "/destinations/{destinationId}/export-user",
        responses={200: sends(ETAG), **errors(*CHANGES_DESTINATION, "notShared")},
    )
    def add_yourself_as_export_user(
        destination_id: DestinationId, user: Contributor, response: Response
    ) -> DestinationView:
        """Add yourself as export user: this destination then exports in your name. Required before the first export."""
        open_destination(destinations, destination_id, user)
        return answer(destinations.set_export_user(destination_id, user.person), response)

    @router.put(
        "/destinations/{destinationId}/consent",
        responses={200: sends(ETAG), **errors(*CHANGES_DESTINATION)},
    )
    def set_consent(
        destination_id: DestinationId, body: ConsentRequest, user: Administrator, response: Response
    ) -> DestinationView:
        """Agree to the present text of GET /api/consent-text, or withdraw: a running export ends, none starts."""
        return answer(destinations.set_consent(destination_id, body, user.person), response)

    @router.get("/destinations/{destinationId}/readiness", responses=errors("destinationNotFound", "secretStoreError"))
    def get_readiness_report(destination_id: DestinationId, _: Viewer) -> Readiness:
        """What is still missing before the first export, in plain words; looks at segments and Mailchimp now."""
        return services.readiness_reports.report(destinations.get(destination_id).destination)

    @router.post(
        "/destinations/{destinationId}/duplicate",
        status_code=201,
        responses={
            201: sends(ETAG, LOCATION),
            **errors(
                *CHANGES_DESTINATION,
                "displayNameTaken",
                "consentRequired",
                "notConnected",
                "secretStoreError",
            ),
        },
    )
    def duplicate_destination(
        destination_id: DestinationId, body: DuplicateRequest, user: Administrator, response: Response
    ) -> DestinationView:
        """Create a copy, connected to the same account or still to be signed in; never scheduled at first."""
        stored = destinations.duplicate(destination_id, body, user.person)
        return _created(stored, response, services.settings.public_url)

    return router


def _key(destination: Destination) -> Key:
    return destination.display_name.casefold(), destination.id


def _created(stored: StoredDestination, response: Response, public_url: str) -> DestinationView:
    response.headers["Location"] = f"{public_url}/api/destinations/{stored.destination.id}"
    return answer(stored, response)


def answer(stored: StoredDestination, response: Response) -> DestinationView:
    response.headers["ETag"] = stored.etag
    removal = stored.destination.removal
    if removal is not None:
        response.headers["Retry-After"] = str(_POLL_SECONDS_WITH_PROBLEM if removal.problem else _POLL_SECONDS)
    return view_of(stored.destination)


def _require_contributors_part(stored: StoredDestination, patch: DestinationPatch, user: Principal) -> None:
    """Administrators decide where data goes, contributors what goes there and when."""
    require_open(stored.destination, user)
    beyond = sorted(patch.model_fields_set - _CONTRIBUTOR_MAY_CHANGE)
    if beyond:
        target = to_camel(beyond[0])
        raise ApiError(403, "roleMissing", f"Changing {target} needs the role {Role.ADMINISTRATOR.title}.", target)
