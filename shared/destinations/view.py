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
    """The connection to Mailchimp; ``secret_hint`` is the end of the key, the rest is never answered."""

    state: SignInState
    method: Literal["apiKey", "oauth"] | None = None
    account_id: str | None = None
    account_name: str | None = None
    role: str | None = None
    secret_hint: str | None = None
    connected_at: datetime | None = None
    connected_by: str | None = None
    problem: str | None = None


class RemovalView(JsonDocument):
    """A removal that is going on. ``left`` lists in plain words what has to happen before the destination is gone;
    ``problem`` says what keeps it from happening now. ``tags_taken`` and ``tags_left`` count memberships in tags, the
    latter null while they are not counted."""

    requested_by: Person
    requested_at: datetime
    tags: TagsOnRemoval
    sign_in_deleted: bool
    tags_taken: int
    tags_left: int | None = None
    left: list[str]
    problem: str | None = None


class DestinationView(JsonDocument):
    """One destination as the API answers it. ``missing_steps`` is empty when ``ready``."""

    id: str
    display_name: str
    ready: bool
    missing_steps: list[str]
    removal: RemovalView | None = None
    consent: Consent
    sign_in: SignInView
    audience: ChosenAudience | None = None
    data_matching: DataMatching | None = None
    segments: tuple[str, ...] = ()
    warnings: tuple[SetUpWarning, ...] = Field(default=())
    export_user: ExportUser | None = None
    enabled: bool
    member_status: MemberStatus
    schedule: DestinationSchedule
    contributors: tuple[Person, ...] = ()
    every_contributor: bool
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


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
        left.append(f"Export {removal.waits_for} has to end; it was asked to.")
    if removal.takes_tags_away and removal.tags_left is None:
        left.append("Memberships in tags have to be counted, and taken away in Mailchimp.")
    elif removal.takes_tags_away:
        left.append(f"To be taken away in Mailchimp: {memberships(removal.tags_left or 0)}.")
    if not removal.sign_in_deleted:
        left.append("The stored Mailchimp sign-in has to be deleted.")
    return [*left, "The stored profiles and the configuration have to be deleted."]
