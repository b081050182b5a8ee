"""Removes destinations: ends their exports, deletes what is stored, completes removals that were interrupted.

A destination is marked first. From then on nothing starts for it and nobody changes it. What follows is done in an
order in which every step may be repeated, and its document goes last, so that whoever finds the mark can go on:

* the running export is asked to end, and waited for;
* the tags are taken away in Mailchimp, if that is wanted (shared/exports/untag.py);
* the sign-in is deleted: at once where the tags are kept, so that nothing can be sent any more;
* stored profiles, keys of requests, the name and the document are deleted, and whom Mailchimp refused in audiences that
  no other destination uses.

Each step belongs to whoever comes by: the request, the function of the queue ``removals``, or one that repeats them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, Protocol

from azure.core.exceptions import AzureError

from shared import log, trace
from shared.destinations.errors import DestinationChanged, DestinationNotFound, TagsAreKept
from shared.destinations.model import Destination, Removal, TagsOnRemoval, memberships
from shared.destinations.store import DestinationStore, StoredDestination
from shared.people import Person
from shared.secrets.store import SecretNotFound, SecretStore, SecretStoreError
from shared.storage import names
from shared.storage.documents import Changed, Entry

WAKE_AT: Final = "wakeAt"
"""In the metadata of ``removals/{id}.json``: when a message for this removal comes, while it waits for something."""

_GRACE: Final = timedelta(seconds=60)
"""How long a message that was sent may take to arrive before it counts as lost."""

_STARTED: Final = "destination.removalStarted"
_FAULT: Final = "The app's storage or secret store did not answer as it should. The removal goes on within a minute."


class Exports(Protocol):
    """The part of the export service that removals need."""

    def stop_for_destination(self, destination_id: str, reason: str) -> None: ...

    def running_of(self, destination_id: str) -> str | None: ...

    def erase_data(self, destination_id: str) -> int: ...


class Messages(Protocol):
    """Sends the message that has a function go on with a removal: ``shared.exports.signals.Signals``."""

    def removal(self, destination_id: str) -> None: ...


class Left(Enum):
    """What is left of a removal after everything that could be done at once: nothing, or what it waits for."""

    NOTHING = "nothing"
    EXPORT = "export"
    TAGS = "tags"


class Removals:
    """Removals, begun and completed."""

    def __init__(
        self,
        store: DestinationStore,
        secrets: SecretStore,
        exports: Exports,
        messages: Messages,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._exports = exports
        self._messages = messages
        self._clock = clock

    def remove(
        self, destination_id: str, user: Person, if_match: str | None = None, tags: TagsOnRemoval | None = None
    ) -> StoredDestination | None:
        """Begin a removal, or go on with it. Returns the destination while something is left to do, else None.

        ``tags``: None means that the tags are kept, and that a removal which has begun stays what it is. KEEP gives up
        taking them away. ``if_match`` counts until the removal has begun: who repeats a call cannot know the version
        that it made. Raises DestinationNotFound, DestinationChanged, TagsAreKept.
        """
        if self._store.get(destination_id).destination.removal is not None:
            if_match = None

        def mark(destination: Destination) -> Destination:
            if destination.removal is None:
                destination.removal = Removal(
                    requested_by=user, requested_at=self._clock(), traceparent=trace.current()
                )
                destination.removal.tags = tags or TagsOnRemoval.KEEP
            elif tags is not None:
                self._change_tags(destination, destination.removal, tags, user)
            return destination

        self._store.change(destination_id, mark, if_match, by=user, action=_STARTED, even_removed=True)
        log.event("removal.requested", destination=destination_id, tags=tags)
        try:
            left = self.go_on(destination_id)
            if left is Left.TAGS:
                self._messages.removal(destination_id)
        except (AzureError, SecretStoreError, DestinationChanged) as error:
            log.warning("removal.interrupted", destination=destination_id, errorType=type(error).__name__)
            self._note_problem(destination_id, _FAULT)
        return self._store.find(destination_id)

    def _change_tags(self, destination: Destination, removal: Removal, tags: TagsOnRemoval, user: Person) -> None:
        if tags is removal.tags or removal.untagged:
            return
        if tags is TagsOnRemoval.REMOVE and not self._has_sign_in(destination, removal):
            raise TagsAreKept(destination.id)
        removal.tags, removal.problem = tags, None
        removal.left_because = f"{user.name} chose to keep them" if tags is TagsOnRemoval.KEEP else None

    def _has_sign_in(self, destination: Destination, removal: Removal) -> bool:
        name = destination.sign_in.secret_name
        if name is None or removal.sign_in_deleted:
            return False
        try:
            self._secrets.read(name)
        except SecretNotFound:
            return False
        return True

    def go_on(self, destination_id: str) -> Left:
        """Do everything that can be done now without Mailchimp. Faults of storage and secret store pass through."""
        try:
            return self._go_on(destination_id)
        except DestinationNotFound:  # somebody else went on at the same time and completed it
            return Left.NOTHING

    def _go_on(self, destination_id: str) -> Left:
        found = self._store.find(destination_id)
        if found is None:  # something may have begun before it was gone and ended after that
            self._erase(destination_id)
            return Left.NOTHING
        destination, removal = found.destination, found.destination.removal
        if removal is None:
            return Left.NOTHING
        self._exports.stop_for_destination(destination_id, _reason(removal))
        if not removal.takes_tags_away:
            removal = self._delete_sign_in(destination)
        running = self._exports.running_of(destination_id)
        removal = self.note(destination_id, lambda newest: _waits(newest, running))
        if running is not None:
            return Left.EXPORT
        if removal.takes_tags_away and any(self._store.documents.list(names.ledgers(destination_id))):
            return Left.TAGS
        if not removal.sign_in_deleted:
            self._delete_sign_in(destination)
        self._complete(destination_id)
        return Left.NOTHING

    def note(self, destination_id: str, change: Callable[[Removal], None]) -> Removal:
        """Note how the removal stands; returns its newest state. Raises DestinationNotFound."""

        def apply(destination: Destination) -> Destination:
            if destination.removal is not None:
                change(destination.removal)
            return destination

        found = self._store.get(destination_id).destination.removal
        if found is None:
            raise DestinationNotFound(destination_id)
        stored = self._store.change(destination_id, apply, by=found.requested_by, action=_STARTED, even_removed=True)
        return stored.destination.removal or found

    def troubled(self, destination_id: str) -> None:
        """Note that going on failed several times in a row. The timer tries again."""
        self._note_problem(
            destination_id,
            "Continuing the removal failed several times. It is tried again every minute; the app's log tells more "
            f"under '{destination_id}'.",
        )

    def _note_problem(self, destination_id: str, problem: str) -> None:
        with suppress(DestinationNotFound, DestinationChanged):
            self.note(destination_id, lambda removal: setattr(removal, "problem", problem))

    # -- delete ------------------------------------------------------------------------------------------------

    def _delete_sign_in(self, destination: Destination) -> Removal:
        if destination.sign_in.secret_name is not None:
            self._secrets.delete(destination.sign_in.secret_name)
        return self.note(destination.id, lambda removal: setattr(removal, "sign_in_deleted", True))

    def _complete(self, destination_id: str) -> None:
        """Delete what is stored; the document last, because an interrupted removal is found by it."""
        self._erase(destination_id)
        removal = self.note(
            destination_id, lambda newest: setattr(newest, "ended_at", newest.ended_at or self._clock())
        )
        destination = self._store.get(destination_id).destination
        self._store.delete(destination, removal.requested_by, _account_of(removal))
        log.event("removal.completed", destination=destination_id)

    def _erase(self, destination_id: str) -> None:
        documents = self._store.documents
        self._exports.erase_data(destination_id)
        documents.delete_all(names.ledgers(destination_id))
        documents.delete_all(names.members_of_destination(destination_id))
        documents.delete_all(names.idempotency_keys(destination_id))
        documents.delete(names.current_export(destination_id))
        with suppress(Changed):  # somebody holds its lease: the timer finds it later
            documents.delete(names.removal(destination_id))
        self._forget_refusals()

    def _forget_refusals(self) -> None:
        """Delete what is remembered of audiences that no destination uses but those that are being removed."""
        documents = self._store.documents
        remembered = [entry.name for entry in documents.list(names.REFUSALS_PREFIX)]
        used = self._store.targets_in_use() if remembered else set()
        for name in remembered:
            if names.refusals_of(name) not in used:
                documents.delete(name)

    # -- the timer ---------------------------------------------------------------------------------------------

    def finish_removals(self) -> int:
        """Have somebody go on with removals that stand still, and delete what a removal left behind; for the app's
        timer. Returns how many messages were sent."""
        # Listed before the destinations: what lies here for one that is then not among them is left over.
        ledgers = [names.ledger_of(entry.name)[0] for entry in self._store.documents.list(names.LEDGERS_PREFIX)]
        listed = self._store.documents.list(names.REMOVALS_PREFIX, metadata=True)
        works = {names.removal_of(entry.name): entry for entry in listed}
        there = {stored.destination.id: stored.destination for stored in self._store.all()}
        stalled = [each.id for each in there.values() if each.removal and self._stands_still(each, works.get(each.id))]
        left_over = {*ledgers, *(each for each, entry in works.items() if not entry.leased)} - there.keys()
        for destination_id in (*stalled, *sorted(left_over)):
            removal = there[destination_id].removal if destination_id in there else None
            with trace.going_on(removal.traceparent if removal else None):
                log.warning("removal.redriven", destination=destination_id)
                self._messages.removal(destination_id)
        return len(stalled) + len(left_over)

    def _stands_still(self, destination: Destination, work: Entry | None) -> bool:
        removal = destination.removal
        if removal is None or (work is not None and work.leased):
            return False
        resting = work.metadata.get(WAKE_AT) if work is not None else None
        expected = datetime.fromisoformat(resting) if resting else removal.requested_at
        if self._clock() - expected < _GRACE:
            return False
        running = self._exports.running_of(destination.id)
        if running is not None:  # its end sends the message
            self._exports.stop_for_destination(destination.id, _reason(removal))
        return running is None


def _waits(removal: Removal, running: str | None) -> None:
    removal.waits_for = running
    if not removal.takes_tags_away:  # else the problem is one with Mailchimp, and belongs to whoever calls it
        removal.problem = None


def _reason(removal: Removal) -> str:
    """Why the running export ends."""
    return f"The destination was removed by {removal.requested_by.name}."


def _account_of(removal: Removal) -> str:
    """What became of Mailchimp's side, for the audit log."""
    if removal.tags is TagsOnRemoval.KEEP and removal.left_because is None:
        return "Contacts and tags in Mailchimp were left as they are."
    account = f"Removed in Mailchimp: {memberships(removal.tags_taken)}."
    if removal.left_because is None:
        return account
    left = "tags" if removal.tags_left is None else memberships(removal.tags_left)
    return f"{account} Not removed: {left}, because {removal.left_because}."
