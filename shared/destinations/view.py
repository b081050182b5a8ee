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


class DestinationView(JsonDocument):
    """One destination, with what is still to do."""

    id: str
    display_name: str
    """Unique without regard to case."""
    ready: bool
    """Whether an export can start."""
    missing_steps: list[str]
    """What is still to do, in plain words; empty when `ready`."""
    removal: Removal | None = None
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
    """Of the last change."""
    updated_by: str
    """Who made the last change."""


def view_of(destination: Destination) -> DestinationView:
    missing = destination.missing_steps()
    shared = set(DestinationView.model_fields) & set(Destination.model_fields)
    return DestinationView(
        **destination.model_dump(include=shared),
        ready=not missing,
        missing_steps=missing,
    )
