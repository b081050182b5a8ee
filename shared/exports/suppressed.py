"""Whom the exports of a destination leave out because Mailchimp refused them for good: for people to see, and to clear.

It is a memory of the audience, so all destinations that export to it share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from shared import log
from shared.audit.log import AuditLog
from shared.audit.model import Change
from shared.destinations.changes import record_of
from shared.destinations.errors import DestinationBeingRemoved
from shared.destinations.model import Destination
from shared.destinations.store import DestinationStore
from shared.exports.places import Places
from shared.people import Person
from shared.storage.json_documents import JsonDocument

if TYPE_CHECKING:  # it brings DuckDB along: a fifth of a second that only these two calls need
    from shared.exports.refusals import Refusals

_AT_ONCE: Final = 2
"""Calls that one process works on at a time: each may take 256 MB."""

_CLEAR_REQUESTED: Final = "destination.suppressedClearRequested"


class SuppressedMember(JsonDocument):
    """Somebody whom exports leave out."""

    email: str
    """The address as it was sent."""
    code: str
    """Why Mailchimp refused them."""
    message: str
    """What Mailchimp said."""
    refused_at: datetime
    """When the export ended in which that happened."""
    until: datetime
    """When they are sent again."""
    export_id: str
    """The export's ID."""
    number: int
    """Which of its members it was, from 0."""


class SharedWith(JsonDocument):
    """Another destination that exports to the same audience."""

    id: str
    """Its ID."""
    display_name: str
    """Its name."""


@dataclass(frozen=True, slots=True)
class SuppressedList:
    """Some of those who are left out, the newest export's first. ``audience_id`` is None where none was chosen yet."""

    audience_id: str | None
    shared_with: list[SharedWith]
    members: list[SuppressedMember]


@dataclass(frozen=True, slots=True)
class Cleared:
    """How many are no longer left out, and which other destinations send them again too."""

    count: int
    shared_with: list[SharedWith]


class Suppressed:
    """Lists and clears those who are left out. ``refusals`` makes the memory when it is first needed."""

    def __init__(
        self,
        refusals: Callable[[], Refusals],
        destinations: DestinationStore,
        audit: AuditLog,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._refusals = refusals
        self._destinations = destinations
        self._audit = audit
        self._clock = clock
        self._new_id = new_id
        self._places = Places(_AT_ONCE)

    def members(
        self, destination: Destination, code: str | None, behind: tuple[str, int] | None, top: int
    ) -> SuppressedList:
        """At most ``top`` behind the ``export_id`` and ``number`` of a member, of one code or of all."""
        target = destination.target
        if target is None:
            return SuppressedList(destination.audience.id if destination.audience else None, [], [])
        with self._places.take(_go_on):
            found = self._refusals().page(*target, code, behind, top)
        members = [
            SuppressedMember(
                email=each.email,
                code=each.code,
                message=each.message,
                refused_at=each.refused_at,
                until=each.until,
                export_id=each.export_id,
                number=each.position,
            )
            for each in found
        ]
        return SuppressedList(target.audience_id, self._shared_with(destination), members)

    def clear(self, destination: Destination, emails: Sequence[str] | None, by: Person) -> Cleared:
        """Have these people sent again, or all where ``emails`` is None. Raises DestinationBeingRemoved.

        It is put on record before it is done, so that it is never done without a record. The record has no address.
        """
        if destination.removal is not None:
            raise DestinationBeingRemoved(destination.id)
        target = destination.target
        if target is None:
            return Cleared(0, [])
        asked = [
            Change(property="audienceId", after=target.audience_id),
            Change(property="addresses", after="all" if emails is None else len(emails)),
        ]
        self._audit.append(record_of(destination, _CLEAR_REQUESTED, by, self._clock(), self._new_id(), changed=asked))
        with self._places.take(_go_on):
            count = self._refusals().clear(*target, emails)
        log.event("suppressed.cleared", destination=destination.id, audience=target.audience_id, members=count)
        return Cleared(count, self._shared_with(destination))

    def _shared_with(self, destination: Destination) -> list[SharedWith]:
        return [
            SharedWith(id=other.id, display_name=other.display_name)
            for stored in self._destinations.all()
            if (other := stored.destination).id != destination.id and other.target == destination.target
        ]


def _go_on() -> None:
    """A request waits for its place as long as it takes."""
