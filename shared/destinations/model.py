"""What an export destination is: consent, Mailchimp sign-in, audience, data matching, segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, StringConstraints

from shared.audit.model import AuditRecord
from shared.people import Person
from shared.schedule.rules import DestinationSchedule
from shared.storage.json_documents import JsonDocument
from shared.trace import Traceparent

FieldName = Annotated[str, StringConstraints(min_length=1, max_length=512)]
MergeTag = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]{1,50}$")]
"""Mailchimp's merge tags use only upper-case letters, digits and underscores."""


class SignInState(StrEnum):
    """``needsAuthentication``: Mailchimp refused the secret; nothing runs until somebody signs in again."""

    NOT_CONNECTED = "notConnected"
    CONNECTED = "connected"
    NEEDS_AUTHENTICATION = "needsAuthentication"


class MemberStatus(StrEnum):
    """The status that new members get. Those that the audience knows keep theirs, whatever is chosen here.

    ``pending``: Mailchimp mails everyone a request to confirm (Marketing API, lists: ``status_if_new``).
    """

    SUBSCRIBED = "subscribed"
    TRANSACTIONAL = "transactional"
    PENDING = "pending"


class Consent(JsonDocument):
    """Who agreed, when, and to which version of the text, that profiles leave for Mailchimp; and who withdrew it."""

    agreed_by: str
    """Who agreed."""
    agreed_at: datetime
    """When."""
    text_version: str
    """Of the text that was agreed to."""
    withdrawn_by: str | None = None
    """Who withdrew it; null while it holds."""
    withdrawn_at: datetime | None = None
    """Since when nothing is exported any more; null while it holds."""


class ExportUser(Person):
    """The person in whose name the destination exports ("Add yourself as export user")."""

    added_at: datetime
    """When they added themselves."""


class SignIn(JsonDocument):
    """The connection to a Mailchimp account. The secret itself lies in the secret store under ``secret_name``.

    ``problem``: why Mailchimp refused it, while the state is ``needsAuthentication``.
    """

    state: SignInState = SignInState.NOT_CONNECTED
    method: Literal["apiKey", "oauth"] | None = None
    account_id: str | None = None
    account_name: str | None = None
    role: str | None = None
    api_root: str | None = None
    secret_name: str | None = None
    secret_hint: str | None = None
    connected_at: datetime | None = None
    connected_by: str | None = None
    problem: str | None = None


class ChosenAudience(JsonDocument):
    """The Mailchimp audience (list) that the members go to."""

    id: str
    """Mailchimp's ID of the audience."""
    name: str
    """Its name when it was last looked at."""
    double_optin: bool = False
    """Whether it asks people to confirm by e-mail."""


class AddressMatching(JsonDocument):
    """Which profile fields make up a merge field of type address. Mailchimp wants the first four."""

    addr1: FieldName
    """The field with street and number."""
    city: FieldName
    """The field with the city."""
    state: FieldName
    """The field with the state or province."""
    zip: FieldName
    """The field with the postal code."""
    addr2: FieldName | None = None
    """The field with the second line."""
    country: FieldName | None = None
    """The field with the country."""

    def parts(self) -> dict[str, str]:
        """Profile field by address part, only the parts that are matched."""
        return self.model_dump(exclude_none=True)


class DataMatching(JsonDocument):
    """Which profile field is the address, which are the names, and which fill further merge fields."""

    email: FieldName
    """The field with the e-mail address."""
    first_name: FieldName | None = None
    """The field with the first name; goes to the merge field FNAME."""
    last_name: FieldName | None = None
    """The field with the last name; goes to the merge field LNAME."""
    merge_fields: dict[MergeTag, FieldName | AddressMatching] = Field(default_factory=dict)
    """By merge tag, the field that fills it, or the parts of an address."""

    def by_merge_tag(self) -> Mapping[str, str | AddressMatching]:
        """Everything that is matched except the address, by merge tag; FNAME and LNAME are the audience's names."""
        names = {"FNAME": self.first_name, "LNAME": self.last_name}
        return {tag: field for tag, field in names.items() if field is not None} | self.merge_fields


class SetUpWarning(JsonDocument):
    """Something that does not keep the destination from exporting, but that somebody should look at."""

    code: str
    """For programs."""
    message: str
    """For people."""
    target: str
    """The property that it is about."""


class TagsOnRemoval(StrEnum):
    """What happens to the tags that the destination has set when it is removed."""

    KEEP = "keep"
    REMOVE = "remove"


def memberships(number: int) -> str:
    """So many memberships in tags, in words."""
    return "1 tag on a contact" if number == 1 else f"{number:,} tags on contacts"


class Removal(JsonDocument):
    """A removal that is going on.

    ``waits_for``: the running export that has to end first. ``sign_in_deleted``: the secret is gone, so the tags can no
    longer be taken away. ``tags_taken`` and ``tags_left`` count memberships in tags: those that were taken away, and
    those that still have to be, null before they are counted. ``untagged``: taking them away has ended, and if some are
    left then ``left_because`` says why. ``problem`` says what the removal waits for. ``ended_at``: when everything but
    the document was deleted. ``traceparent``: the trace of the call that began it.
    """

    requested_by: Person
    """Who removes it."""
    requested_at: datetime
    """When that was asked."""
    tags: TagsOnRemoval = TagsOnRemoval.KEEP
    waits_for: str | None = None
    sign_in_deleted: bool = False
    untagged: bool = False
    tags_taken: int = 0
    tags_left: int | None = None
    left_because: str | None = None
    problem: str | None = None
    ended_at: datetime | None = None
    traceparent: Traceparent = None

    @property
    def takes_tags_away(self) -> bool:
        """Whether it still has to."""
        return self.tags is TagsOnRemoval.REMOVE and not self.untagged


class Target(NamedTuple):
    """Where a destination's members go: an audience of a Mailchimp account."""

    account_id: str
    audience_id: str


@dataclass(frozen=True, slots=True)
class SetUp:
    """What an export needs of a destination whose set-up is complete."""

    target: Target
    api_root: str
    secret_name: str
    data_matching: DataMatching


class Destination(JsonDocument):
    """One configured export destination; stored at ``destinations/{id}.json``.

    ``warnings`` are those of the last look at the audience. ``contributors`` may configure and run it beside the
    administrators; ``every_contributor`` opens it to all who have that role. ``last_change`` is the record of the
    change that made this version: it is stored with the change, and then copied to the audit log. ``scheduled_since``:
    when it was last scheduled otherwise, or enabled or disabled; runs that were due before are not made up for.
    """

    id: str
    display_name: str
    consent: Consent
    sign_in: SignIn = Field(default_factory=SignIn)
    audience: ChosenAudience | None = None
    data_matching: DataMatching | None = None
    segments: tuple[str, ...] = ()
    member_status: MemberStatus = MemberStatus.SUBSCRIBED
    export_user: ExportUser | None = None
    enabled: bool = True
    schedule: DestinationSchedule = Field(default_factory=DestinationSchedule)
    scheduled_since: datetime | None = None
    contributors: tuple[Person, ...] = ()
    every_contributor: bool = False
    warnings: tuple[SetUpWarning, ...] = ()
    removal: Removal | None = None
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    last_change: AuditRecord | None = None

    @property
    def target(self) -> Target | None:
        """None where nobody has signed in or no audience was chosen."""
        if self.sign_in.account_id is None or self.audience is None:
            return None
        return Target(self.sign_in.account_id, self.audience.id)

    @property
    def set_up(self) -> SetUp | None:
        """None where ``missing_steps`` has something to do."""
        sign_in, target, matching = self.sign_in, self.target, self.data_matching
        if self.missing_steps() or target is None or matching is None:
            return None
        if sign_in.api_root is None or sign_in.secret_name is None:
            return None
        return SetUp(target, sign_in.api_root, sign_in.secret_name, matching)

    def missing_steps(self) -> list[str]:
        """What has to be done before an export can start, in the words of the portal; empty when it is ready."""
        if self.removal is not None:
            return ["nothing: the destination is being removed"]
        return [
            sentence
            for missing, sentence in (
                (not self.enabled, "enable the destination: it was disabled"),
                (
                    self.consent.withdrawn_at is not None,
                    "agree to data privacy and compliance again: the consent was withdrawn",
                ),
                (self.sign_in.state is SignInState.NOT_CONNECTED, "sign in to Mailchimp"),
                (self.sign_in.state is SignInState.NEEDS_AUTHENTICATION, "sign in to Mailchimp again"),
                (self.audience is None, "choose an audience"),
                (self.export_user is None, "add yourself as export user"),
                (self.data_matching is None, "match the Email field"),
                (not self.segments, "choose at least one segment"),
            )
            if missing
        ]

    def is_open_to(self, person: Person) -> bool:
        """Whether a contributor may configure and run the destination."""
        return self.every_contributor or any(person.id and person.id == each.id for each in self.contributors)
