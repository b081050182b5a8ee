"""Where destinations are kept: one document each in the state container, changed with ETag only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from unicodedata import normalize

from shared.audit.log import AuditLog
from shared.audit.model import AuditRecord
from shared.destinations.changes import changes, record_of
from shared.destinations.errors import (
    DestinationBeingRemoved,
    DestinationChanged,
    DestinationNameTaken,
    DestinationNotFound,
)
from shared.destinations.model import Destination, SignInState, Target
from shared.people import MAILCHIMP, Person
from shared.storage import names
from shared.storage.documents import AlreadyExists, Changed, Documents
from shared.storage.json_documents import JsonDocument

_TRIES: Final = 8
_CLAIM_COUNTS: Final = timedelta(seconds=60)
"""How long a name stays claimed by somebody whose destination does not show it (yet)."""
_REMOVED: Final = "destination.removed"


@dataclass(frozen=True, slots=True)
class StoredDestination:
    """A destination and the ETag of the version that was read."""

    destination: Destination
    etag: str


class _NameClaim(JsonDocument):
    """The content of ``names/…``: who has a display name."""

    destination_id: str
    claimed_at: datetime


def _normalized(display_name: str) -> str:
    return normalize("NFKC", display_name).strip().casefold()


class DestinationStore:
    """Reads and changes destinations. The engine of exports needs no more than this.

    Every change is recorded. The record is stored with the changed destination, in one write, and copied to the audit
    log afterwards; whoever changes it next, or the timer, makes sure of the copy. So no change goes without a record,
    and no record tells of a change that was not made.
    """

    def __init__(
        self, documents: Documents, audit: AuditLog, clock: Callable[[], datetime], new_id: Callable[[], str]
    ) -> None:
        self.documents = documents
        self._audit = audit
        self._clock = clock
        self._new_id = new_id
        self._logged: dict[str, str] = {}  # by destination, the record that is certainly in the log

    def find(self, destination_id: str) -> StoredDestination | None:
        found = self.documents.read(names.destination(destination_id))
        return StoredDestination(Destination.from_bytes(found.data), found.etag) if found else None

    def get(self, destination_id: str) -> StoredDestination:
        """The destination. Raises DestinationNotFound."""
        found = self.find(destination_id)
        if found is None:
            raise DestinationNotFound(destination_id)
        return found

    def require(self, destination_id: str) -> StoredDestination:
        """The destination, if it is there to stay. Raises DestinationNotFound, DestinationBeingRemoved."""
        found = self.get(destination_id)
        if found.destination.removal is not None:
            raise DestinationBeingRemoved(destination_id)
        return found

    def all(self) -> Iterator[StoredDestination]:
        """Every destination, in the order of their IDs."""
        for entry in list(self.documents.list(names.DESTINATIONS_PREFIX)):
            found = self.documents.read(entry.name)
            if found is not None:  # removed since the listing
                yield StoredDestination(Destination.from_bytes(found.data), found.etag)

    def targets_in_use(self) -> set[Target]:
        """Account and audience of every destination that is there to stay."""
        return {
            target
            for stored in self.all()
            if stored.destination.removal is None and (target := stored.destination.target) is not None
        }

    # -- names -----------------------------------------------------------------------------------------------

    def claim_name(self, display_name: str, destination_id: str) -> None:
        """Take the display name for this destination; case makes no difference. Raises DestinationNameTaken.

        The claim is a blob of its own, created if absent: of two who ask at once, one gets the name.
        """
        name = names.display_name(_normalized(display_name))
        wanted = _NameClaim(destination_id=destination_id, claimed_at=self._clock()).to_bytes()

        def take(data: bytes) -> bytes | None:
            return None if self._is_held(_NameClaim.from_bytes(data), display_name, destination_id) else wanted

        while True:
            with suppress(AlreadyExists):
                self.documents.create(name, wanted)
                return
            held = self.documents.update(name, take)
            if held is not None:
                if _NameClaim.from_bytes(held).destination_id != destination_id:
                    raise DestinationNameTaken(display_name)
                return

    def _is_held(self, claim: _NameClaim, display_name: str, destination_id: str) -> bool:
        """Whether the holder of a claim has the name, or may be about to."""
        if claim.destination_id == destination_id or self._clock() - claim.claimed_at < _CLAIM_COUNTS:
            return True
        holder = self.find(claim.destination_id)
        return holder is not None and _normalized(holder.destination.display_name) == _normalized(display_name)

    def release_name(self, display_name: str, destination_id: str) -> None:
        """Give the name free, unless it is the destination's present one."""
        found = self.find(destination_id)
        if found is not None and _normalized(found.destination.display_name) == _normalized(display_name):
            return
        self._release(display_name, destination_id)

    def _release(self, display_name: str, destination_id: str) -> None:
        name = names.display_name(_normalized(display_name))
        claim = self.documents.read(name)
        if claim is not None and _NameClaim.from_bytes(claim.data).destination_id == destination_id:
            with suppress(Changed):
                self.documents.delete(name, claim.etag)

    # -- change ----------------------------------------------------------------------------------------------

    def create(self, destination: Destination, by: Person) -> StoredDestination:
        destination.last_change = self._record(None, destination, by, "destination.created")
        try:
            etag = self.documents.create(names.destination(destination.id), destination.to_bytes())
        except AlreadyExists:  # its ID is nobody else's: the write arrived, its answer did not
            etag = self.get(destination.id).etag
        self._log(destination)
        return StoredDestination(destination, etag)

    def change(
        self,
        destination_id: str,
        change: Callable[[Destination], Destination],
        if_match: str | None = None,
        *,
        by: Person,
        action: str,
        even_removed: bool = False,
    ) -> StoredDestination:
        """Store what ``change`` makes of the newest version. It gets a copy, may run again, and may raise.

        ``if_match``: the ETag that the newest version must have. Without it the change is repeated on whatever
        somebody else wrote meanwhile. ``by`` and ``action`` go into the record of the change. ``even_removed``: also
        when its removal has begun. Raises DestinationNotFound, DestinationBeingRemoved, DestinationChanged.
        """
        written: bytes | None = None
        for _ in range(_TRIES):
            found = self.get(destination_id)
            if found.destination.to_bytes() == written:  # the write arrived, its answer did not
                self._log(found.destination)
                return found
            if if_match is not None and found.etag != if_match:
                raise DestinationChanged(destination_id)
            if found.destination.removal is not None and not even_removed:
                raise DestinationBeingRemoved(destination_id)
            wanted = change(found.destination.model_copy(deep=True))
            if wanted == found.destination:
                return found
            wanted.updated_at, wanted.updated_by = self._clock(), by.name
            wanted.last_change = self._record(found.destination, wanted, by, action) or found.destination.last_change
            self._log(found.destination)
            written = wanted.to_bytes()
            try:
                etag = self.documents.replace(names.destination(destination_id), written, found.etag)
            except Changed:
                continue
            self._log(wanted)
            return StoredDestination(wanted, etag)
        raise DestinationChanged(destination_id)

    def _record(self, before: Destination | None, after: Destination, by: Person, action: str) -> AuditRecord | None:
        """The record of a change; None where nothing of the configuration changed."""
        found = changes(before, after)
        return record_of(after, action, by, self._clock(), self._new_id(), changed=found) if found else None

    def _log(self, destination: Destination) -> None:
        if destination.last_change is not None:
            self._audit.append(destination.last_change)

    def log_recent_changes(self) -> None:
        """Copy records that a crash may have kept from the audit log, however long ago; for the app's timer. Each is
        looked after once by each process."""
        for stored in self.all():
            record = stored.destination.last_change
            if record is not None and self._logged.get(record.target_id) != record.id:
                self._audit.append(record)
                self._logged[record.target_id] = record.id

    def mark_needs_authentication(self, destination_id: str, problem: str, secret_name: str | None = None) -> None:
        """Note that Mailchimp refused the sign-in; nothing starts until somebody signs in again.

        ``secret_name``: the secret that was refused. Somebody may have signed in again since: then all is well.
        A destination that is gone or going is left alone.
        """

        def mark(destination: Destination) -> Destination:
            sign_in = destination.sign_in
            if sign_in.state is SignInState.CONNECTED and secret_name in {None, sign_in.secret_name}:
                sign_in.state, sign_in.problem = SignInState.NEEDS_AUTHENTICATION, problem
            return destination

        try:
            self.change(destination_id, mark, by=MAILCHIMP, action="destination.signInRefused")
        except (DestinationNotFound, DestinationBeingRemoved):
            return

    def delete(self, destination: Destination, by: Person, detail: str | None = None) -> None:
        """Delete the destination, after its end was recorded. ``detail``: what of it is left elsewhere.

        The record is stored with the destination first, like that of a change: whoever completes a removal that was
        interrupted finds it there, and writes no second one.
        """
        end = record_of(destination, _REMOVED, by, self._clock(), self._new_id(), detail=detail)

        def note(data: bytes) -> bytes | None:
            found = Destination.from_bytes(data)
            self._log(found)
            if found.last_change is not None and found.last_change.action == _REMOVED:
                return None
            found.last_change = end
            return found.to_bytes()

        noted = self.documents.update(names.destination(destination.id), note)
        if noted is not None:
            self._log(Destination.from_bytes(noted))
        self._release(destination.display_name, destination.id)
        self.documents.delete(names.destination(destination.id))  # last: a removal that is cut off is found by it
