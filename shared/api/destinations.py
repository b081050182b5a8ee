"""Routes of destinations: set-up, sign-in, audiences, removal."""

from __future__ import annotations

from fastapi import APIRouter, Response

from shared.api.auth import Administrator, Contributor, Principal, Role, Viewer, may, require_role
from shared.api.errors import ApiError
from shared.api.parameters import AudienceId, DestinationId, IfMatch, etag_wanted
from shared.api.services import Services
from shared.destinations import consent
from shared.destinations.model import SignInState
from shared.destinations.requests import ApiKeyRequest, DestinationPatch, DestinationRequest
from shared.destinations.service import AudienceChoice
from shared.destinations.store import StoredDestination
from shared.destinations.view import DestinationView, view_of
from shared.storage.json_documents import JsonDocument

_CONTRIBUTOR_MAY_CHANGE = frozenset({"data_matching", "segments"})


class DestinationList(JsonDocument):
    """All destinations, by display name."""

    value: list[DestinationView]


class ConsentText(JsonDocument):
    """What an administrator agrees to, and the version that is recorded."""

    version: str
    text: str


class MergeFieldView(JsonDocument):
    """A field of an audience that profile fields can be matched to."""

    tag: str
    name: str
    type: str
    required: bool


class AudienceView(JsonDocument):
    """An audience of the signed-in account. ``merge_fields`` is null in long lists: ask for the one audience then."""

    id: str
    name: str
    member_count: int
    double_optin: bool
    marketing_permissions: bool
    merge_fields: list[MergeFieldView] | None = None


class AudienceList(JsonDocument):
    """The audiences of the signed-in account."""

    value: list[AudienceView]


def routes(services: Services) -> APIRouter:
    """The routes under ``/api/destinations``, and the text of the consent."""
    router = APIRouter(prefix="/api", tags=["destinations"])
    destinations = services.destinations

    @router.get("/consent-text")
    def get_consent_text(_: Viewer) -> ConsentText:
        """What has to be agreed to before a destination can be created."""
        return ConsentText(version=consent.TEXT_VERSION, text=consent.TEXT)

    @router.get("/destinations")
    def list_destinations(_: Viewer) -> DestinationList:
        """All destinations."""
        return DestinationList(value=[view_of(destination) for destination in destinations.list()])

    @router.post("/destinations", status_code=201)
    def create_destination(body: DestinationRequest, user: Administrator, response: Response) -> DestinationView:
        """Create a destination. Agreeing to data privacy and compliance (GET /api/consent-text) is required."""
        stored = destinations.create(body.display_name, body.consent, user.name)
        response.headers["Location"] = f"{services.settings.public_url}/api/destinations/{stored.destination.id}"
        return _answer(stored, response)

    @router.get("/destinations/{destinationId}")
    def get_destination(destination_id: DestinationId, _: Viewer, response: Response) -> DestinationView:
        """One destination, with the steps that are still to do. Its ETag is for If-Match."""
        return _answer(destinations.get(destination_id), response)

    @router.patch("/destinations/{destinationId}")
    def change_destination(
        destination_id: DestinationId,
        body: DestinationPatch,
        user: Contributor,
        response: Response,
        if_match: IfMatch = None,
    ) -> DestinationView:
        """Change name, audience, data matching or segments. What is left out stays; nothing is half changed.

        Contributors may change data matching and segments of connected destinations, administrators everything.
        """
        if not may(user, Role.ADMINISTRATOR):
            _require_contributors_part(destinations.get(destination_id), body, user)
        return _answer(destinations.patch(destination_id, body, user.name, etag_wanted(if_match)), response)

    @router.delete("/destinations/{destinationId}", status_code=204)
    def remove_destination(destination_id: DestinationId, user: Administrator, if_match: IfMatch = None) -> None:
        """Remove a destination: running exports are canceled, the stored sign-in is deleted."""
        destinations.remove(destination_id, user.name, etag_wanted(if_match))

    @router.put("/destinations/{destinationId}/api-key")
    def sign_in_with_api_key(
        destination_id: DestinationId, body: ApiKeyRequest, user: Administrator, response: Response
    ) -> DestinationView:
        """Sign in to Mailchimp with an API key. Mailchimp is asked first; a refused key is not stored."""
        return _answer(destinations.sign_in_with_api_key(destination_id, body.api_key, user.name), response)

    @router.put("/destinations/{destinationId}/export-user")
    def add_yourself_as_export_user(
        destination_id: DestinationId, user: Administrator, response: Response
    ) -> DestinationView:
        """Record yourself as the user on whose behalf this destination exports."""
        return _answer(destinations.set_export_user(destination_id, user.name), response)

    @router.get("/destinations/{destinationId}/audiences")
    def list_audiences(destination_id: DestinationId, _: Viewer) -> AudienceList:
        """The audiences of the signed-in Mailchimp account, to pick one; the first twenty with their merge fields."""
        return AudienceList(value=[_audience(choice) for choice in destinations.audiences(destination_id)])

    @router.get("/destinations/{destinationId}/audiences/{audienceId}")
    def get_audience(destination_id: DestinationId, audience_id: AudienceId, _: Viewer) -> AudienceView:
        """One audience with its merge fields."""
        return _audience(destinations.audience(destination_id, audience_id))

    return router


def _answer(stored: StoredDestination, response: Response) -> DestinationView:
    response.headers["ETag"] = stored.etag
    return view_of(stored.destination)


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


def _require_contributors_part(stored: StoredDestination, patch: DestinationPatch, user: Principal) -> None:
    """Administrators decide where data goes, contributors what goes there."""
    if stored.destination.sign_in.state is SignInState.NOT_CONNECTED:
        require_role(user, Role.ADMINISTRATOR, "Setting up a destination that is not connected to Mailchimp")
    beyond = sorted(patch.model_fields_set - _CONTRIBUTOR_MAY_CHANGE)
    if beyond:
        names = {"display_name": "displayName", "audience_id": "audienceId"}
        target = names[beyond[0]]
        raise ApiError(403, "roleMissing", f"Changing {target} needs the role {Role.ADMINISTRATOR.title}.", target)
