"""What an export destination is: consent, Mailchimp sign-in, audience, data matching, segments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.storage.json_documents import JsonDocument

FieldName = Annotated[str, StringConstraints(min_length=1, max_length=512)]
MergeTag = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]{1,50}$")]
"""Mailchimp's merge tags use only upper-case letters, digits and underscores."""


class SignInState(StrEnum):
    """``signInAgain``: Mailchimp refused the secret; nothing runs until somebody signs in again."""

    NOT_CONNECTED = "notConnected"
    CONNECTED = "connected"
    SIGN_IN_AGAIN = "signInAgain"


class Consent(JsonDocument):
    """Who agreed, when, and to which version of the text, that profiles leave for Mailchimp."""

    agreed_by: str
    agreed_at: datetime
    text_version: str


class SignIn(JsonDocument):
    """The connection to a Mailchimp account. The secret itself lies in the secret store under ``secret_name``."""

    state: SignInState = SignInState.NOT_CONNECTED
    method: Literal["apiKey", "oauth"] | None = None
    account_id: str | None = None
    account_name: str | None = None
    api_root: str | None = None
    secret_name: str | None = None
    secret_hint: str | None = None
    connected_at: datetime | None = None
    connected_by: str | None = None


class ChosenAudience(JsonDocument):
    """The Mailchimp audience (list) that the members go to."""

    id: str
    name: str


class AddressMatching(JsonDocument):
    """Which profile fields make up a merge field of type address. Mailchimp wants the first four."""

    addr1: FieldName
    city: FieldName
    state: FieldName
    zip: FieldName
    addr2: FieldName | None = None
    country: FieldName | None = None

    def parts(self) -> dict[str, str]:
        """Profile field by address part, only the parts that are matched."""
        return self.model_dump(exclude_none=True)


class DataMatching(JsonDocument):
    """Which profile field is the address, which are the names, and which fill further merge fields."""

    email: FieldName
    first_name: FieldName | None = None
    last_name: FieldName | None = None
    merge_fields: dict[MergeTag, FieldName | AddressMatching] = Field(default_factory=dict)

    def by_merge_tag(self) -> Mapping[str, str | AddressMatching]:
        """Everything that is matched except the address, by merge tag; FNAME and LNAME are the audience's names."""
        names = {"FNAME": self.first_name, "LNAME": self.last_name}
        return {tag: field for tag, field in names.items() if field is not None} | self.merge_fields


class SetUpWarning(JsonDocument):
    """Something that does not keep the destination from exporting, but that somebody should look at."""

    code: str
    message: str
    target: str


class Destination(JsonDocument):
    """One configured export destination; stored at ``destinations/{id}.json``.

    ``warnings`` are those of the last look at the audience. ``removed_at`` is set while its removal is going on.
    """

    id: str
    display_name: str
    consent: Consent
    sign_in: SignIn = Field(default_factory=SignIn)
    audience: ChosenAudience | None = None
    data_matching: DataMatching | None = None
    segments: tuple[str, ...] = ()
    export_user: str | None = None
    warnings: tuple[SetUpWarning, ...] = ()
    removed_at: datetime | None = None
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str

    def missing_steps(self) -> list[str]:
        """What has to be done before an export can start, in the words of the portal; empty when it is ready."""
        steps = []
        if self.removed_at is not None:
            return ["nothing: the destination is being removed"]
        if self.sign_in.state is SignInState.NOT_CONNECTED:
            steps.append("sign in to Mailchimp")
        if self.sign_in.state is SignInState.SIGN_IN_AGAIN:
            steps.append("sign in to Mailchimp again")
        if self.audience is None:
            steps.append("choose an audience")
        if self.data_matching is None:
            steps.append("match the Email field")
        if not self.segments:
            steps.append("choose at least one segment")
        return steps
