"""What the portal sees of a destination: its document without the name of its secret, plus what is still to do."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from shared.destinations.model import (
    ChosenAudience,
    Consent,
    DataMatching,
    Destination,
    ExportUser,
    MemberStatus,
    Removal,
    SetUpWarning,
    SignInState,
    TagsOnRemoval,
    memberships,
)
from shared.people import Person
from shared.schedule.rules import DestinationSchedule
from shared.storage.json_documents import JsonDocument


class SignInView(JsonDocument):
    """The connection to Mailchimp."""

    state: SignInState
    """Exports run only while it is `connected`."""
    method: Literal["apiKey", "oauth"] | None = None
    """How somebody signed in; null where nobody has."""
    account_id: str | None = None
    """Mailchimp's ID of the account."""
    account_name: str | None = None
    """The company's name in Mailchimp."""
    role: str | None = None
    """Of the Mailchimp user who signed in."""
    secret_hint: str | None = None
    """The end of the API key, to recognise it by; the rest is never answered."""
    connected_at: datetime | None = None
    """When somebody signed in last."""
    connected_by: str | None = None
    """Who did."""
    problem: str | None = None
    """Why Mailchimp refused the sign-in, while it needs authentication."""


class RemovalView(JsonDocument):
    """A removal that is going on."""

    requested_by: Person
    """Who removes it."""
    requested_at: datetime
    """When the removal was requested."""
    tags: TagsOnRemoval
    """What becomes of the tags that this destination has set."""
    sign_in_deleted: bool
    """Whether the stored sign-in is deleted: from then on no tag can be removed."""
    tags_taken: int
    """How many tags were removed, counted on each contact."""
    tags_left: int | None = None
    """How many still have to be; null until they are counted."""
    left: list[str]
    """What has to happen before the destination is gone, in plain words."""
    problem: str | None = None
    """What keeps it from happening now."""


class DestinationView(JsonDocument):
    """One destination, with what is still to do."""

    id: str
    display_name: str
    """Unique without regard to case."""
    ready: bool
    """Whether an export can start."""
    missing_steps: list[str]
    """What is still to do, in plain words; empty when `ready`."""
    removal: RemovalView | None = None
    """Null unless it is being removed."""
    consent: Consent
    """The agreement to data privacy and compliance."""
    sign_in: SignInView
    """The connection to Mailchimp."""
    audience: ChosenAudience | None = None
    """Null until one is chosen."""
    data_matching: DataMatching | None = None
    """Null until fields are matched."""
    segments: tuple[str, ...] = ()
    """Names of the segments that are exported; each becomes a tag."""
    warnings: tuple[SetUpWarning, ...] = Field(default=())
    """What somebody should look at; keeps nothing from exporting."""
    export_user: ExportUser | None = None
    """Null until somebody adds themselves."""
    enabled: bool
    """False: nothing is exported, neither on demand nor by schedule."""
    member_status: MemberStatus
    """What new members become; those that the audience knows keep their status."""
    schedule: DestinationSchedule
    """When it is exported by itself."""
    contributors: tuple[Person, ...] = ()
    """Who may configure and run it beside the administrators."""
    every_contributor: bool
    """Whether everybody with the role Contributor may."""
    created_at: datetime
    """When it was created."""
    created_by: str
    """Who created it."""
    updated_at: datetime
    """When it was changed last."""
    updated_by: str
    """Who made the last change."""


def view_of(destination: Destination) -> DestinationView:
    missing = destination.missing_steps()
    shared = set(DestinationView.model_fields) & set(Destination.model_fields) - {"removal"}
    return DestinationView(
        **destination.model_dump(include=shared),
        ready=not missing,
        missing_steps=missing,
        removal=_removal_view(destination.removal) if destination.removal else None,
    )


def _removal_view(removal: Removal) -> RemovalView:
    shared = set(RemovalView.model_fields) & set(Removal.model_fields)
    return RemovalView(**removal.model_dump(include=shared), left=_left(removal))


def _left(removal: Removal) -> list[str]:
    left = []
    if removal.waits_for is not None:
        left.append(f"The running export '{removal.waits_for}' has to end; it was asked to.")
    if removal.takes_tags_away and removal.tags_left is None:
        left.append("The tags have to be counted, and removed in Mailchimp.")
    elif removal.takes_tags_away:
        left.append(f"Still to be removed in Mailchimp: {memberships(removal.tags_left or 0)}.")
    if not removal.sign_in_deleted:
        left.append("The stored Mailchimp sign-in has to be deleted.")
    return [*left, "The stored profiles and the configuration have to be deleted."]
