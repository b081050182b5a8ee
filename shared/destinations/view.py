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


class DestinationView(JsonDocument):
    """One destination as the API answers it. ``missing_steps`` is empty when ``ready``."""

    id: str
    display_name: str
    ready: bool
    missing_steps: list[str]
    removal: Removal | None = None
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
    shared = set(DestinationView.model_fields) & set(Destination.model_fields)
    return DestinationView(
        **destination.model_dump(include=shared),
        ready=not missing,
        missing_steps=missing,
    )
