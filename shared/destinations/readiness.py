"""The readiness report: what is still missing before a destination can export, and what to know before it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from shared.destinations.errors import Finding, NotConnected
from shared.destinations.fitting import Fitting
from shared.destinations.model import Destination, MemberStatus, SetUpWarning
from shared.mailchimp import errors as mailchimp
from shared.mailchimp.access import LookupsBusy
from shared.segments.errors import SegmentError
from shared.storage.json_documents import JsonDocument

if TYPE_CHECKING:
    from shared.segments.formats import PinnedSegment

NEAR_LIMIT: Final = 0.9
"""From so much of the limit on, the report warns."""


class State(StrEnum):
    """``unknown``: it could not be looked at now, e.g. because Mailchimp does not answer."""

    DONE = "done"
    MISSING = "missing"
    UNKNOWN = "unknown"


class Check(JsonDocument):
    """One thing that an export needs."""

    code: str
    """For programs."""
    title: str
    """What has to be true."""
    state: State
    """Whether it is."""
    message: str | None = None
    """What is missing and what to do about it; null when done."""


class SegmentProfiles(JsonDocument):
    """A chosen segment, with its size."""

    name: str
    profiles: int | None = None
    """Its rows at its present version; null where nobody has counted them yet."""


class Readiness(JsonDocument):
    """What is still missing before a destination can export, and what to know before it does."""

    ready: bool
    """Whether an export may start."""
    checks: list[Check]
    """Everything that an export needs."""
    warnings: list[SetUpWarning]
    """What to know before it runs."""
    segments: list[SegmentProfiles]
    """The chosen segments."""
    profiles: int | None = None
    """The sum over the segments; null where it is not known."""
    members: int | None = None
    """Distinct people among them; null where that is not known."""
    limit: int
    """Members that one export may have."""


class Catalog(Protocol):
    """Pins segments: ``shared.segments.catalog.SegmentCatalog``."""

    def pin(self, names: Sequence[str]) -> Sequence[PinnedSegment]: ...


class Counts(Protocol):
    """What earlier exports have counted: ``shared.exports.counts``."""

    def rows(self, pinned: PinnedSegment) -> int | None: ...

    def members(self, destination: Destination, pinned: Sequence[PinnedSegment]) -> int | None: ...


class ReadinessReports:
    """Makes readiness reports. Looks at segments and Mailchimp now; changes nothing but a refused sign-in."""

    def __init__(self, fitting: Fitting, catalog: Catalog, counts: Counts, limit: int) -> None:
        self._fitting = fitting
        self._catalog = catalog
        self._counts = counts
        self._limit = limit

    def report(self, destination: Destination) -> Readiness:
        """The report on the destination as it stands."""
        checks = _steps(destination)
        segments, profiles, members = self._count(destination)
        warnings = list(_about_members(destination))
        checks.append(self._segments(destination))
        audience, found = self._audience(destination)
        checks.append(audience)
        warnings += found
        limit = _limit(profiles, members, self._limit)
        if isinstance(limit, SetUpWarning):
            warnings.append(limit)
        elif limit is not None:
            checks.append(limit)
        return Readiness(
            ready=all(check.state is not State.MISSING for check in checks),
            checks=checks,
            warnings=warnings,
            segments=segments,
            profiles=profiles,
            members=members,
            limit=self._limit,
        )

    def _segments(self, destination: Destination) -> Check:
        title = "Every chosen segment is there and has the matched fields"
        if not destination.segments:
            return Check(code="segmentsFit", title=title, state=State.MISSING, message="No segment is chosen yet.")
        return _checked("segmentsFit", title, self._fitting.check_segments(destination.model_copy(deep=True)))

    def _audience(self, destination: Destination) -> tuple[Check, Sequence[SetUpWarning]]:
        """Mailchimp is asked now: sign-in, audience, and its merge fields."""
        code, title = "audienceFits", "Mailchimp accepts the sign-in, and the audience has the matched merge fields"

        def answer(state: State, message: str) -> tuple[Check, Sequence[SetUpWarning]]:
            return Check(code=code, title=title, state=state, message=message), destination.warnings

        if destination.audience is None:
            return answer(State.MISSING, "No audience is chosen yet.")
        try:
            looked_at = destination.model_copy(deep=True)
            findings = self._fitting.check_audience(looked_at)
        except NotConnected as error:
            return answer(State.MISSING, str(error))
        except (mailchimp.Unavailable, LookupsBusy):
            return answer(
                State.UNKNOWN,
                "Mailchimp does not answer right now, so this could not be checked. Try again in a moment.",
            )
        except mailchimp.MailchimpError as error:
            return answer(State.MISSING, f"{error.message} {error.action}")
        return _checked(code, title, findings), looked_at.warnings

    def _count(self, destination: Destination) -> tuple[list[SegmentProfiles], int | None, int | None]:
        """Rows per segment, their sum, and the distinct members, as far as they are known."""
        try:
            pinned = self._catalog.pin(destination.segments)
        except SegmentError:
            return [SegmentProfiles(name=name) for name in destination.segments], None, None
        segments = [SegmentProfiles(name=each.name, profiles=self._counts.rows(each)) for each in pinned]
        known = [each.profiles for each in segments if each.profiles is not None]
        complete = bool(segments) and len(known) == len(segments)
        return segments, sum(known) if complete else None, self._counts.members(destination, pinned)


_STEPS: Final[Sequence[tuple[str, str, Callable[[Destination], bool]]]] = (
    ("enabled", "The destination is enabled", lambda d: d.enabled),
    ("consent", "Data privacy and compliance was agreed to", lambda d: d.consent.withdrawn_at is None),
    ("signIn", "Signed in to Mailchimp", lambda d: d.sign_in.state == "connected"),
    ("audience", "An audience is chosen", lambda d: d.audience is not None),
    ("exportUser", "Somebody was added as export user", lambda d: d.export_user is not None),
    ("dataMatching", "The Email field is matched", lambda d: d.data_matching is not None),
    ("segments", "At least one segment is chosen", lambda d: bool(d.segments)),
)
_WHAT_TO_DO: Final = {
    "enabled": "The destination is disabled. Enable it again.",
    "consent": "The consent was withdrawn. An administrator has to read the text and agree again.",
    "signIn": "Sign in to Mailchimp.",
    "audience": "Choose one of the account's audiences.",
    "exportUser": 'Use "Add yourself as export user": exports then run in your name.',
    "dataMatching": "Choose the profile field that holds the e-mail address.",
    "segments": "Choose the segments to export.",
}


def _steps(destination: Destination) -> list[Check]:
    checks = []
    for code, title, is_done in _STEPS:
        done = is_done(destination)
        message = None if done else _WHAT_TO_DO[code]
        if code == "signIn" and destination.sign_in.problem is not None:
            message = f"{destination.sign_in.problem} Sign in to Mailchimp again."
        checks.append(Check(code=code, title=title, state=State.DONE if done else State.MISSING, message=message))
    if destination.removal is not None:
        message = "The destination is being removed. Create another one to export again."
        checks.append(
            Check(
                code="notBeingRemoved",
                title="The destination is not being removed",
                state=State.MISSING,
                message=message,
            )
        )
    return checks


def _checked(code: str, title: str, findings: Sequence[Finding]) -> Check:
    if not findings:
        return Check(code=code, title=title, state=State.DONE)
    return Check(code=code, title=title, state=State.MISSING, message=" ".join(finding.message for finding in findings))


def _about_members(destination: Destination) -> Sequence[SetUpWarning]:
    """What the chosen status of new members means, where it is not what most expect."""
    messages = {
        MemberStatus.PENDING: "Mailchimp sends every new member an e-mail that asks them to confirm, all at about the "
        "time of the export. Whoever does not confirm gets no campaigns.",
        MemberStatus.TRANSACTIONAL: "New members get no campaigns: transactional contacts have not subscribed.",
    }
    message = messages.get(destination.member_status)
    return [] if message is None else [SetUpWarning(code="memberStatus", message=message, target="memberStatus")]


def _limit(profiles: int | None, members: int | None, limit: int) -> Check | SetUpWarning | None:
    """A check that fails above the limit, a warning near it. Without a count of people, only the rows can tell: so
    many people are in them at most."""
    if members is not None and members > limit:
        return Check(
            code="limit",
            title=f"At most {limit:,} members",
            state=State.MISSING,
            message=f"The segments hold {members:,} members; an export may have at most {limit:,}. Choose fewer or "
            "smaller segments, or split them over several destinations.",
        )
    most = members if members is not None else profiles
    if most is None or most < NEAR_LIMIT * limit:
        return None
    what = f"{most:,} members" if members is not None else f"{most:,} profiles, some of them perhaps twice"
    return SetUpWarning(
        code="nearLimit",
        message=f"The segments hold {what}; an export of more than {limit:,} members is refused before anything is "
        "sent.",
        target="segments",
    )
